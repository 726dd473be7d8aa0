"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.contexts.feedback import Feedback as Feedback
from rosd_kit.components.contexts.key_idea import KeyIdea as KeyIdea
from rosd_kit.components.contexts.none import NoContext as NoContext
from rosd_kit.components.contexts.solution import Solution as Solution
from rosd_kit.components.contexts.solution_and_idea import SolutionAndIdea as SolutionAndIdea
from rosd_kit.components.contexts.solution_or_feedback import SolutionOrFeedback as SolutionOrFeedback
from rosd_kit.contracts import Context

COMPONENTS: tuple[type[Context], ...]
