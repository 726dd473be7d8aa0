"""Weights on their way from the trainer to a server: their label, their buckets, and files that a server loads."""

from rosd_kit.serving.weight_transfer.base import LabeledWeights, WeightTransfer
from rosd_kit.serving.weight_transfer.disk import DiskTransfer

__all__ = ["DiskTransfer", "LabeledWeights", "WeightTransfer"]
