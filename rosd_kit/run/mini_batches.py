"""Cuts a step's samples into mini-batches with an update each, and joins what the updates report. Does not know losses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from rosd_kit.training.loss_report import LossReport
from rosd_kit.training.optimizer import StepOutcome
from rosd_kit.types import DistillSample, SampleScores


def cut_by_problems(samples: Sequence[DistillSample], count: int) -> list[list[int]]:
    """Return the samples' indices in `count` mini-batches with nearly equal numbers of problems, in order.

    The samples of a problem stay together; with fewer problems than `count`, each problem is a mini-batch.
    """
    by_problem: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        by_problem.setdefault(sample.problem_id, []).append(index)
    groups = list(by_problem.values())
    count = min(count, len(groups))
    bounds = [len(groups) * number // count for number in range(count + 1)]
    return [sorted(index for group in groups[start:end] for index in group) for start, end in itertools.pairwise(bounds)]


def with_old_logprobs(samples: Sequence[DistillSample], scores: Sequence[SampleScores]) -> list[DistillSample]:
    """Return the samples with the trainer's own log-probs, measured before the step's first update."""
    return [replace(sample, old_logprobs=scored.student) for sample, scored in zip(samples, scores, strict=True)]


def joined_report(reports: Sequence[LossReport], batches: Sequence[Sequence[int]]) -> LossReport:
    """Return one report for all mini-batches: means of losses, means over tokens of the rest, scores in the samples' order."""
    if len(reports) == 1:
        return reports[0]
    tokens = sum(report.tokens for report in reports)

    def token_mean(value: Callable[[LossReport], float]) -> float:
        return math.fsum(value(report) * report.tokens for report in reports) / max(1, tokens)

    indexed: dict[int, SampleScores] = {}
    for report, batch in zip(reports, batches, strict=True):
        indexed.update(zip(batch, report.scores, strict=True))
    return LossReport(
        loss=_mean([report.loss for report in reports]),
        terms={name: _mean([report.terms[name] for report in reports]) for name in reports[0].terms},
        tokens=tokens,
        entropy=token_mean(lambda report: report.entropy),
        ratio_mean=token_mean(lambda report: report.ratio_mean),
        ratio_max=max(report.ratio_max for report in reports),
        mismatch=token_mean(lambda report: report.mismatch),
        teacher_gain=token_mean(lambda report: report.teacher_gain),
        scores=[indexed[index] for index in sorted(indexed)],
        seconds={phase: sum(report.seconds.get(phase, 0.0) for report in reports) for phase in reports[0].seconds},
    )


def joined_outcome(outcomes: Sequence[StepOutcome]) -> StepOutcome:
    """Return one outcome for all updates: mean gradient norm, sum of changes, applied if every update was."""
    return StepOutcome(
        applied=all(outcome.applied for outcome in outcomes),
        grad_norm=_mean([outcome.grad_norm for outcome in outcomes]),
        lr=outcomes[0].lr,
        change=sum(outcome.change for outcome in outcomes),
    )


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)
