"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.divergences.forward_kl import ForwardKL as ForwardKL
from rosd_kit.components.divergences.jsd import JSD as JSD
from rosd_kit.components.divergences.reverse_kl import ReverseKL as ReverseKL
from rosd_kit.contracts import Divergence

COMPONENTS: tuple[type[Divergence], ...]
