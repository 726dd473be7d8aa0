"""Weights that are chosen after scoring: the localizer's second word. Knows nothing of how the scores come about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rosd_kit.contracts import Localizer
from rosd_kit.faults import Faults, check_weights
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.types import DistillSample, SampleScores


def refined(
    samples: Sequence[DistillSample], localizer: Localizer, scores: Sequence[SampleScores], ranks: Ranks
) -> tuple[tuple[DistillSample, ...], Faults]:
    """Return the samples with the localizer's new weights, and what failed; samples without a teacher prompt keep theirs.

    A sample at which the localizer fails weighs nothing. Of several `ranks`, which all are given the same, each asks about its
    share and all get the same answer: a part that is slow or unlucky in one process must not set their steps apart.
    """
    mine = Faults()
    own = {i: _refined(samples[i], localizer, scores[i], mine) for i in ranks.share(len(samples))}
    found, faults = dict[int, DistillSample](), Faults()
    for theirs, failed in ranks.gather((own, mine)):
        found |= theirs
        faults.add(failed)
    faults.judge()
    return tuple(found[i] for i in range(len(samples))), faults


def _refined(sample: DistillSample, localizer: Localizer, scores: SampleScores, faults: Faults) -> DistillSample:
    if not sample.teacher_views:
        return sample
    subject, check = f"a rollout of problem {sample.problem_id!r}", check_weights(len(sample.response_ids))
    weights = faults.attempt(localizer, subject, lambda: tuple(localizer.refine(sample, scores)), check)
    return replace(sample, token_weights=weights if weights is not None else (0.0,) * len(sample.response_ids))
