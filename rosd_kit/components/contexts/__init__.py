"""Contexts: write the teacher's prompt."""

from rosd_kit.components.contexts.feedback import Feedback
from rosd_kit.components.contexts.key_idea import KeyIdea
from rosd_kit.components.contexts.none import NoContext
from rosd_kit.components.contexts.solution import Solution
from rosd_kit.components.contexts.solution_and_idea import SolutionAndIdea
from rosd_kit.components.contexts.solution_or_feedback import SolutionOrFeedback

COMPONENTS = (KeyIdea, Solution, SolutionAndIdea, SolutionOrFeedback, Feedback, NoContext)
