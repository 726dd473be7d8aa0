"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.tasks.dataset import Dataset as Dataset
from rosd_kit.components.tasks.micro import Micro as Micro
from rosd_kit.components.tasks.micro_corpus import MicroCorpus as MicroCorpus
from rosd_kit.components.tasks.micro_reasoning import MicroReasoning as MicroReasoning
from rosd_kit.components.tasks.micro_reasoning_corpus import MicroReasoningCorpus as MicroReasoningCorpus
from rosd_kit.components.tasks.reasoning_gym import ReasoningGym as ReasoningGym
from rosd_kit.contracts import Task

COMPONENTS: tuple[type[Task], ...]
