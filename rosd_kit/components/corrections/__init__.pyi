"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.corrections.none import NoCorrection as NoCorrection
from rosd_kit.components.corrections.truncated import Truncated as Truncated
from rosd_kit.contracts import Correction

COMPONENTS: tuple[type[Correction], ...]
