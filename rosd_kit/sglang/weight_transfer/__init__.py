"""Sends weights from the trainer to a server: through files, shared memory, or a process group."""

from rosd_kit.sglang.weight_transfer.base import LabeledWeights, WeightTransfer
from rosd_kit.sglang.weight_transfer.disk import DiskTransfer
from rosd_kit.sglang.weight_transfer.distributed import DistributedTransfer
from rosd_kit.sglang.weight_transfer.tensor import TensorTransfer

__all__ = ["DiskTransfer", "DistributedTransfer", "LabeledWeights", "TensorTransfer", "WeightTransfer"]
