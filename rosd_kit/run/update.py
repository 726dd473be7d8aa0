"""The updates of a step: score its samples, take the gradient, apply it; once, or once for each mini-batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from rosd_kit.faults import Faults
from rosd_kit.model.student import Student
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.mini_batches import cut_by_problems, joined_outcome, joined_report, with_old_logprobs
from rosd_kit.run.sample_records import Trained
from rosd_kit.run.step_metrics import reported
from rosd_kit.training.optimizer import StepOutcome
from rosd_kit.training.refine_weights import refine_weights
from rosd_kit.training.step_loss import LossReport, backward_step
from rosd_kit.types import DistillSample


class TakesSteps(Protocol):
    """What an update needs of an optimizer."""

    def step(self, loss: float, *, ends_step: bool = True) -> StepOutcome:
        """Use the gradients and clear them."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a step's updates did: metrics, the samples as they were trained on, and which localizers failed to refine them."""

    metrics: dict[str, float]
    trained: Trained = field(default_factory=Trained)
    faults: tuple[str, ...] = ()


def update(
    samples: Sequence[DistillSample],
    *,
    recipe: Recipe,
    student: Student,
    components: BuiltComponents,
    optimizer: TakesSteps,
    ranks: Ranks,
) -> Update:
    """Take a step's updates. A step without samples, or with a gradient that is not finite, changes no weight."""
    began = time.perf_counter()
    if not samples:
        return Update(metrics={"train/applied": 1.0, "train/weighted_tokens": 0.0, "train/skipped": 0.0})
    student.enter_training()
    faults = Faults()
    with components.teacher.scoring(student) as teacher_models:
        score = partial(
            backward_step,
            student=student.model,
            teacher_models=teacher_models,
            objectives=components.objectives,
            settings=recipe.batch,
            pad_id=student.pad_id,
            temperature=recipe.sampling.temperature,
            ranks=ranks,
        )
        if components.localizer.refines or components.localizer.config.right == "uncertain":
            first = score(samples=samples, backward=False)
            samples, faults = refine_weights(samples, components.localizer, first.scores, ranks)
        batches = cut_by_problems(samples, recipe.optimizer.updates_per_batch)
        if _needs_old_logprobs(components, len(batches)):
            samples = with_old_logprobs(samples, score(samples=samples, backward=False).scores)
        reports, outcomes = [], []
        for number, indices in enumerate(batches, 1):
            student.enter_training()
            reports.append(score(samples=[samples[index] for index in indices]))
            student.model.eval()
            components.boundary.settle()
            outcomes.append(optimizer.step(reports[-1].loss, ends_step=number == len(batches)))
    report = joined_report(reports, batches)
    return Update(
        metrics=_metrics(report, joined_outcome(outcomes), faults, samples) | {"time/train": time.perf_counter() - began},
        trained=Trained(samples=samples, scores=report.scores),
        faults=faults.messages(),
    )


def _needs_old_logprobs(components: BuiltComponents, updates: int) -> bool:
    """Return whether log-probs must be measured before the first update: a single update computes them itself."""
    several = updates > 1 or components.correction.by_sequence
    return several and any(term.objective.needs_old for term in components.objectives)


def _metrics(report: LossReport, outcome: StepOutcome, faults: Faults, samples: Sequence[DistillSample]) -> dict[str, float]:
    return {
        **reported(report),
        **({"fault/refine": float(len(faults.failed))} if faults.failed else {}),
        "train/grad_norm": outcome.grad_norm,
        "train/lr": outcome.lr,
        "train/applied": float(outcome.applied),
        "train/skipped": float(not outcome.applied),
        "train/weight_change": outcome.change,
        "tokens/train": float(sum(len(s.prompt_ids) + len(s.response_ids) for s in samples)),
    }
