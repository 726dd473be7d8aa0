"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.rollouts.reference import ReferenceEngine as ReferenceEngine
from rosd_kit.components.rollouts.sglang import SGLangEngine as SGLangEngine
from rosd_kit.components.rollouts.transformers import TransformersEngine as TransformersEngine
from rosd_kit.contracts import RolloutEngine

COMPONENTS: tuple[type[RolloutEngine], ...]
