"""Sends weights from the trainer to an SGLang server without files: through shared memory, or a process group."""

from rosd_kit.sglang.weight_transfer.distributed import DistributedTransfer
from rosd_kit.sglang.weight_transfer.tensor import TensorTransfer

__all__ = ["DistributedTransfer", "TensorTransfer"]
