"""Weights that are chosen after scoring: the localizer's second word. Knows nothing of how the scores come about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rosd_kit.contracts import Localizer
from rosd_kit.types import DistillSample, SampleScores


def refined(
    samples: Sequence[DistillSample], localizer: Localizer, scores: Sequence[SampleScores]
) -> tuple[DistillSample, ...]:
    """Return the samples with the localizer's new weights; samples without a teacher prompt keep theirs."""
    return tuple(
        replace(sample, token_weights=tuple(localizer.refine(sample, found))) if sample.teacher_views else sample
        for sample, found in zip(samples, scores, strict=True)
    )
