"""Demonstrations: choose the privileged text for each rollout."""

from rosd_kit.components.demonstrations.first_success import FirstSuccess
from rosd_kit.components.demonstrations.none import NoDemonstration
from rosd_kit.components.demonstrations.other_problem import OtherProblem
from rosd_kit.components.demonstrations.random_success import RandomSuccess
from rosd_kit.components.demonstrations.reference import Reference
from rosd_kit.components.demonstrations.shortest_success import ShortestSuccess

COMPONENTS = (ShortestSuccess, FirstSuccess, RandomSuccess, Reference, OtherProblem, NoDemonstration)
