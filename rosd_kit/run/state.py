"""A training run in progress: what it is made of and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.model.student import Student
from rosd_kit.options import options_at
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.open_groups import OpenGroups
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.pipeline.prefetch import Prefetcher
from rosd_kit.plugins.run_view import RunView
from rosd_kit.recipe import Recipe, to_values
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.folder import RunFolder
from rosd_kit.run.identity import Identity
from rosd_kit.run.interrupts import Interrupts
from rosd_kit.run.reporter import Reporter
from rosd_kit.training.checkpoint_writer import CheckpointWriter
from rosd_kit.training.optimizer import Optimizer
from rosd_kit.types import JsonObject, Problem, StepBatch

if TYPE_CHECKING:
    from rosd_kit.plugins.registry import Registry

Measure = Callable[[], tuple[SuiteResult, ...]]
#: Gets the recipe, the student, the registry and a function that evaluates the untrained student; returns its results.
Baseline = Callable[[Recipe, Student, "Registry", Measure], tuple[SuiteResult, ...]]


@dataclass(kw_only=True)
class Run:
    """A training run. Every rank holds one and takes the same steps; only the main rank writes, displays and calls observers.

    `step` counts finished optimizer steps, `saved` those in the newest checkpoint, also while it is being written.
    """

    recipe: Recipe
    ranks: Ranks
    folder: RunFolder
    student: Student
    components: BuiltComponents
    optimizer: Optimizer
    pipeline: Pipeline
    prefetcher: Prefetcher
    open_groups: OpenGroups | None
    checkpoints: CheckpointWriter
    identity: Identity
    reporter: Reporter
    interrupts: Interrupts
    step: int = 0
    saved: int = 0

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe is done."""
        return self.step >= self.recipe.steps

    @property
    def off_policy(self) -> bool:
        """Whether rollouts may come from weights that are older than a step's."""
        return self.prefetcher.enabled or self.open_groups is not None

    @cached_property
    def values(self) -> JsonObject:
        """The resolved recipe as plain values."""
        return to_values(self.recipe)

    def problems(self, step: int) -> list[Problem]:
        """Return the training problems of one step."""
        return train_problems(self.recipe, self.components, step)

    def sample(self) -> StepBatch:
        """Sample and diagnose the batch of the current step."""
        if self.open_groups is None:
            return self.pipeline.step(self.problems(self.step), self.step)
        batch, left = self.pipeline.step_until(self.open_groups.take(), self.step, self.recipe.problems_per_step)
        self.open_groups.put_back(left)
        return batch

    def sync_engine(self) -> None:
        """Give the engine the present weights."""
        sampler = self.student.sampler
        sampler.follow(self.student)
        with self.gathered():
            self.components.rollout.sync(sampler, self.step)

    def gathered(self) -> AbstractContextManager[None]:
        """Let each rank's engine read and run the weights that it samples with. All ranks call it together."""
        return self.student.sampler.gathered(initial=self.components.samples_initial)

    def view(self) -> RunView:
        """Return what observers see now."""
        return RunView(
            recipe=self.recipe,
            values=self.values,
            path=self.folder.path,
            step=self.step,
            policy=self.student,
            ranks=self.ranks.count,
            warnings=tuple(self.reporter.warnings),
            api_1={"folder": self.folder, "student": self.student, "parts": self.components, "saved": self.saved},
        )


def train_problems(recipe: Recipe, components: BuiltComponents, step: int) -> list[Problem]:
    """Return the training problems of one step."""
    with options_at(step):
        return components.task.train_batch(step=step, count=recipe.problems_per_step, seed=recipe.seed)


def check_readable(student: Student, problems: Sequence[Problem], suites: Mapping[str, Sequence[Problem]]) -> None:
    """Raise `RunError` if too much of the first step's problems, or of a suite, is unknown to the student's tokenizer."""
    student.check_readable(problems, "the training problems")
    for suite, of_suite in suites.items():
        student.check_readable(of_suite, f"suite {suite!r}")
