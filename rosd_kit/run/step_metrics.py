"""Derived metrics of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rosd_kit.recipe import Recipe
from rosd_kit.training.step_loss import LossReport
from rosd_kit.types import StepBatch


def reported(report: LossReport) -> dict[str, float]:
    """Return the loss engine's report as metrics."""
    return {
        "train/loss": report.loss,
        **{f"train/loss/{name}": value for name, value in report.terms.items()},
        "train/weighted_tokens": float(report.tokens),
        "train/entropy": report.entropy,
        "train/ratio_mean": report.ratio_mean,
        "train/ratio_max": report.ratio_max,
        "train/engine_mismatch": report.mismatch,
        "train/teacher_gain": report.teacher_gain,
        **{f"time/train/{part}": seconds for part, seconds in report.seconds.items()},
    }


def scheduled_values(recipe: Recipe, step: int) -> dict[str, float]:
    """Return `schedule/OPTION`, the value at a step counted from 0, for every option that has a schedule."""
    return {f"schedule/{path}": float(schedule.value(step)) for path, schedule in recipe.schedules().items()}


def speeds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return tokens per second for each phase that processed tokens."""
    return {
        f"speed/{phase}": metrics[f"tokens/{phase}"] / metrics[f"time/{phase}"]
        for phase in ("generate", "reflect", "train")
        if metrics.get(f"tokens/{phase}") and metrics.get(f"time/{phase}")
    }


def worst(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest value of each metric over ranks."""
    return {name: max(one.get(name, 0.0) for one in found) for name in sorted({name for one in found for name in one})}


def staleness(batch: StepBatch, step: int) -> float:
    """Return the mean age of rollouts: how many updates their weights are behind the current ones."""
    completions = [rollout.completion for group in batch.groups for rollout in group.rollouts]
    ages = [step - one.weight_version for one in completions if one.finish_reason != "overlong"]
    return sum(ages) / max(1, len(ages))
