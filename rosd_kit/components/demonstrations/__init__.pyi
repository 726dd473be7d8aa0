"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.demonstrations.first_success import FirstSuccess as FirstSuccess
from rosd_kit.components.demonstrations.none import NoDemonstration as NoDemonstration
from rosd_kit.components.demonstrations.other_problem import OtherProblem as OtherProblem
from rosd_kit.components.demonstrations.random_success import RandomSuccess as RandomSuccess
from rosd_kit.components.demonstrations.reference import Reference as Reference
from rosd_kit.components.demonstrations.shortest_success import ShortestSuccess as ShortestSuccess
from rosd_kit.contracts import Demonstration

COMPONENTS: tuple[type[Demonstration], ...]
