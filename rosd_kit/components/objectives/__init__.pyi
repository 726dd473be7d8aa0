"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.objectives.distill import Distill as Distill
from rosd_kit.components.objectives.policy_gradient import PolicyGradient as PolicyGradient
from rosd_kit.components.objectives.sft import SupervisedFineTuning as SupervisedFineTuning
from rosd_kit.contracts import Objective

COMPONENTS: tuple[type[Objective], ...]
