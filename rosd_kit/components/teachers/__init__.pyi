"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.teachers.adapter_off import AdapterOff as AdapterOff
from rosd_kit.components.teachers.ema import EMA as EMA
from rosd_kit.components.teachers.frozen import Frozen as Frozen
from rosd_kit.components.teachers.interpolated import Interpolated as Interpolated
from rosd_kit.components.teachers.live import Live as Live
from rosd_kit.components.teachers.snapshot import Snapshot as Snapshot
from rosd_kit.components.teachers.trust_region import TrustRegion as TrustRegion
from rosd_kit.contracts import Teacher

COMPONENTS: tuple[type[Teacher], ...]
