"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.reflectors.none import NoReflector as NoReflector
from rosd_kit.components.reflectors.oracle import OracleReflector as OracleReflector
from rosd_kit.components.reflectors.rationale import Rationale as Rationale
from rosd_kit.components.reflectors.tutor import Tutor as Tutor
from rosd_kit.contracts import Reflector

COMPONENTS: tuple[type[Reflector], ...]
