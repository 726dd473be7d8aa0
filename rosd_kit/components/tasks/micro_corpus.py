"""The training lessons of the embedded base model, as a task: each lesson is a problem with a reference solution.

The components that write prompts in a run (tutor, contexts) also write the lessons' prompts, with the options of the
profile `micro`, so the model trains on the prompts that it will see.
"""

from __future__ import annotations

import random

from rosd_kit.components.tasks.micro import Micro, as_problem
from rosd_kit.components.verifiers.micro import MicroVerifier
from rosd_kit.contracts import Task
from rosd_kit.micro.corpus import DomainLesson, draw_lesson
from rosd_kit.types import Problem


class MicroCorpus(Task):
    """Lessons for the embedded base model: solving, reflecting, and solving with privileged text."""

    name = "micro_corpus"
    provides = frozenset({"solution"})

    def __init__(self, config: object = None) -> None:
        from rosd_kit.components.tasks.lesson_prompts import LessonPrompts  # reads a recipe: listing commands do without

        super().__init__(config)
        self.prompts = LessonPrompts("micro", MicroVerifier())

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rng = random.Random(f"corpus {seed} {step}")
        return [self._problem(draw_lesson(rng), f"lesson-{step}-{i}") for i in range(count)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        return Micro().suites(count=count, seed=seed)

    def _problem(self, lesson: DomainLesson, id: str) -> Problem:
        problem = as_problem(lesson.domain, lesson.instance, suite=lesson.kind, id=id)
        return Problem(
            id=id,
            suite=lesson.kind,
            messages=self.prompts.messages(lesson, problem),
            answer=problem.answer,
            solution=lesson.target,
        )
