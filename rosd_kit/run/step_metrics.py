"""Metrics of a step that are made of others, or of what the loop has in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rosd_kit.training.step_loss import LossReport
from rosd_kit.types import StepBatch


def reported(report: LossReport) -> dict[str, float]:
    """Return what the engine tells of a step, by metric name."""
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


def speeds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return tokens a second for each phase that made tokens."""
    return {
        f"speed/{phase}": metrics[f"tokens/{phase}"] / metrics[f"time/{phase}"]
        for phase in ("generate", "reflect", "train")
        if metrics.get(f"tokens/{phase}") and metrics.get(f"time/{phase}")
    }


def worst(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each of the engines' metrics as the process with the largest has it."""
    return {name: max(one.get(name, 0.0) for one in found) for name in sorted({name for one in found for name in one})}


def staleness(batch: StepBatch, step: int) -> float:
    """Return by how many updates the weights that sampled are older than those that are trained, on the mean of rollouts."""
    ages = [step - rollout.completion.weight_version for group in batch.groups for rollout in group.rollouts]
    return sum(ages) / max(1, len(ages))
