"""Lets a localizer revise its token weights after scoring. Does not know how the scores are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rosd_kit.contracts import Localizer
from rosd_kit.faults import Faults, check_weights
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.types import DistillSample, SampleScores


def refine_weights(
    samples: Sequence[DistillSample], localizer: Localizer, scores: Sequence[SampleScores], ranks: Ranks
) -> tuple[tuple[DistillSample, ...], Faults]:
    """Return the samples with the localizer's revised weights, and its failures.

    Samples without a teacher view keep their weights. A sample for which the localizer fails gets weight 0. All `ranks` pass
    the same samples; each calls the localizer for its share of them, and all return the same result, so that a component
    which is slow or fails on one rank cannot make their steps differ.
    """
    faults = Faults()
    refined = {i: _refine(samples[i], localizer, scores[i], faults) for i in ranks.assigned_indices(len(samples))}
    all_refined, all_faults = dict[int, DistillSample](), Faults()
    for rank_refined, rank_faults in ranks.gather((refined, faults)):
        all_refined |= rank_refined
        all_faults.add(rank_faults)
    all_faults.raise_if_all_failed()
    return tuple(all_refined[i] for i in range(len(samples))), all_faults


def _refine(sample: DistillSample, localizer: Localizer, scores: SampleScores, faults: Faults) -> DistillSample:
    if not sample.teacher_views:
        return sample
    subject, check = f"a rollout of problem {sample.problem_id!r}", check_weights(len(sample.response_ids))
    weights = faults.attempt(localizer, subject, lambda: tuple(localizer.refine(sample, scores)), check)
    return replace(sample, token_weights=weights if weights is not None else (0.0,) * len(sample.response_ids))
