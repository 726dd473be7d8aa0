"""The training lessons of the model `micro-reasoning`, as a task: each lesson is a problem with a reference solution.

The components that write prompts in a run also write the lessons' prompts, with the options of the profile `micro-reasoning`.
"""

from __future__ import annotations

import random

from rosd_kit.components.tasks.micro_reasoning import MicroReasoning, as_problem
from rosd_kit.components.verifiers.micro_reasoning import MicroReasoningVerifier
from rosd_kit.contracts import Task
from rosd_kit.micro.reasoning.lessons import JourneyLesson, draw_lesson
from rosd_kit.types import Message, Problem

#: How a prompt asks for a solution: in the model's own manner, or in the manner of the text that it shows.
OWN, LIKE = "Solve it correctly .", "Solve it like this ."


class MicroReasoningCorpus(Task):
    """Lessons for the model `micro-reasoning`: solving, reflecting, and solving with privileged text in either manner."""

    name = "micro_reasoning_corpus"
    provides = frozenset({"solution"})

    def __init__(self, config: object = None) -> None:
        from rosd_kit.components.tasks.lesson_prompts import LessonPrompts  # reads a recipe: listing commands do without

        super().__init__(config)
        self.prompts = LessonPrompts("micro-reasoning", MicroReasoningVerifier())

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rng = random.Random(f"reasoning corpus {seed} {step}")
        return [self.problem(draw_lesson(rng), f"lesson-{step}-{i}") for i in range(count)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        return MicroReasoning().suites(count=count, seed=seed)

    def problem(self, lesson: JourneyLesson, id: str) -> Problem:
        """Return a lesson as a problem with its prompt."""
        problem = as_problem(lesson.journey, suite=lesson.suite, id=id)
        messages = self.prompts.messages(lesson, problem)
        wanted, other = (LIKE, OWN) if lesson.like else (OWN, LIKE)
        return Problem(
            id=id,
            suite=lesson.kind,
            messages=tuple(_replaced(message, other, wanted) for message in messages),
            answer=problem.answer,
            solution=lesson.target,
        )


def _replaced(message: Message, old: str, new: str) -> Message:
    return {**message, "content": str(message["content"]).replace(old, new)}
