"""Tasks: where problems come from."""

from rosd_kit.components.tasks.dataset import Dataset
from rosd_kit.components.tasks.micro import Micro
from rosd_kit.components.tasks.micro_corpus import MicroCorpus
from rosd_kit.components.tasks.reasoning_gym import ReasoningGym

COMPONENTS = (Micro, Dataset, ReasoningGym, MicroCorpus)
