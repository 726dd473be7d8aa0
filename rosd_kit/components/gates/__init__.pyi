"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.gates.all import AllRollouts as AllRollouts
from rosd_kit.components.gates.mixed_groups import MixedGroups as MixedGroups
from rosd_kit.components.gates.mixed_rewards import MixedRewards as MixedRewards
from rosd_kit.contracts import Gate

COMPONENTS: tuple[type[Gate], ...]
