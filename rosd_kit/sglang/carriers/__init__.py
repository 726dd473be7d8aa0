"""How weights travel from the trainer to a server: through files, shared memory, or a process group."""

from rosd_kit.sglang.carriers.base import Carrier, WeightSet
from rosd_kit.sglang.carriers.disk import DiskCarrier
from rosd_kit.sglang.carriers.distributed import DistributedCarrier
from rosd_kit.sglang.carriers.tensor import TensorCarrier

__all__ = ["Carrier", "DiskCarrier", "DistributedCarrier", "TensorCarrier", "WeightSet"]
