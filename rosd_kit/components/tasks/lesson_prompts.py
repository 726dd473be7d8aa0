"""Turns lessons into prompts with the components and templates of a laboratory's profile."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from omegaconf import OmegaConf

from rosd_kit.components.contexts.feedback import Feedback
from rosd_kit.components.contexts.key_idea import KeyIdea
from rosd_kit.components.contexts.solution import Solution
from rosd_kit.components.contexts.solution_and_idea import SolutionAndIdea
from rosd_kit.components.reflectors.tutor import Tutor
from rosd_kit.contracts import Component, Context, Verifier
from rosd_kit.micro.lesson import Lesson
from rosd_kit.recipe.shipped import find
from rosd_kit.text.budget import assemble
from rosd_kit.types import Case, Completion, JsonObject, Message, Problem, Reflection, Rollout, View

_CONTEXTS: dict[str, type[Context]] = {
    "idea": KeyIdea,
    "solution": Solution,
    "solution_and_idea": SolutionAndIdea,
    "feedback": Feedback,
}


ComponentT = TypeVar("ComponentT", bound=Component)


class LessonPrompts:
    """Turns lessons into chat messages, with the options that `profile` gives to the components, and the task's verifier."""

    def __init__(self, profile: str, verifier: Verifier) -> None:
        self.verifier = verifier
        self.tutor = _component(Tutor, profile)
        self.contexts = {kind: _component(cls, profile) for kind, cls in _CONTEXTS.items()}

    def messages(self, lesson: Lesson, problem: Problem) -> tuple[Message, ...]:
        """Return the chat that the model sees for this lesson."""
        if lesson.kind == "solve":
            return problem.messages
        case = self._case(lesson, problem)
        if lesson.kind in _CONTEXTS:
            (prompt,) = self.contexts[lesson.kind].prompts(case)
        else:
            prompt = self.tutor.prompt(case)
        return assemble(prompt)

    def _case(self, lesson: Lesson, problem: Problem) -> Case:
        """Return the case for which a run would write this lesson's prompt."""
        completion = Completion(
            prompt_ids=(), token_ids=(), logprobs=(), text=lesson.response, token_spans=(), finish_reason="stop"
        )
        verdict = self.verifier.verify(problem, lesson.response)
        return Case(
            problem=problem,
            rollout=Rollout(index=0, completion=completion, verdict=verdict),
            views=(View(text=lesson.demonstration, source="lesson"),) if lesson.demonstration else (),
            reflection=Reflection(idea=lesson.idea or None),
        )


def _component(cls: type[ComponentT], profile: str) -> ComponentT:
    """Build a component with the profile's options."""
    options = _profile_options(profile).get(cls.kind, {}).get(cls.name, {})
    return cls(cls.Config(**options))


@cache
def _profile_options(name: str) -> dict[str, dict[str, JsonObject]]:
    """Return the options in a profile, by slot and component."""
    profile = OmegaConf.to_container(OmegaConf.load(find(name, folder="profiles")))
    assert isinstance(profile, dict)
    options: dict[str, dict[str, JsonObject]] = profile["components"]
    return options
