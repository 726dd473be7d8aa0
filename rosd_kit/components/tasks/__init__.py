"""Tasks: where problems come from."""

from rosd_kit.components.tasks.dataset import Dataset
from rosd_kit.components.tasks.micro import Micro
from rosd_kit.components.tasks.micro_corpus import MicroCorpus

COMPONENTS = (Micro, Dataset, MicroCorpus)
