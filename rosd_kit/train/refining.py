"""Weights that are chosen after scoring: the localizer's second word. Knows nothing of how the scores come about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rosd_kit.contracts import Localizer
from rosd_kit.guarding import Faults, check_weights
from rosd_kit.types import DistillSample, SampleScores


def refined(
    samples: Sequence[DistillSample], localizer: Localizer, scores: Sequence[SampleScores], faults: Faults
) -> tuple[DistillSample, ...]:
    """Return the samples with the localizer's new weights; samples without a teacher prompt keep theirs.

    A sample at which the localizer fails weighs nothing; `faults` knows it then.
    """
    found = []
    for sample, scored in zip(samples, scores, strict=True):
        if sample.teacher_views:
            weights = _weights(sample, localizer, scored, faults)
            sample = replace(sample, token_weights=weights or (0.0,) * len(sample.response_ids))
        found.append(sample)
    faults.judge()
    return tuple(found)


def _weights(sample: DistillSample, localizer: Localizer, scores: SampleScores, faults: Faults) -> tuple[float, ...] | None:
    subject, check = f"a rollout of problem {sample.problem_id!r}", check_weights(len(sample.response_ids))
    return faults.attempt(localizer, subject, lambda: tuple(localizer.refine(sample, scores)), check)
