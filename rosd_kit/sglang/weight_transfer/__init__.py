"""How weights travel from the trainer to a server: through files, shared memory, or a process group."""

from rosd_kit.sglang.weight_transfer.base import Carrier, WeightSet
from rosd_kit.sglang.weight_transfer.disk import DiskCarrier
from rosd_kit.sglang.weight_transfer.distributed import DistributedCarrier
from rosd_kit.sglang.weight_transfer.tensor import TensorCarrier

__all__ = ["Carrier", "DiskCarrier", "DistributedCarrier", "TensorCarrier", "WeightSet"]
