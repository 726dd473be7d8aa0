"""Lets a localizer revise its token weights after scoring. Does not know how the scores are computed."""

from __future__ import annotations

import math
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

    Of right rollouts, the option `right: uncertain` keeps the tokens of the highest entropy. Samples without a teacher view
    keep their weights. A sample for which the localizer fails gets weight 0. All `ranks` pass the same samples; each calls the
    localizer for its share of them, and all return the same result, so that a component which is slow or fails on one rank
    cannot make their steps differ.
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
    if sample.success and localizer.config.right == "uncertain":
        sample = replace(sample, token_weights=_most_uncertain(sample, scores, localizer.config.right_share))
    if not localizer.refines:
        return sample
    weights = faults.attempt(localizer, subject, lambda: tuple(localizer.refine(sample, scores)), check)
    return replace(sample, token_weights=weights if weights is not None else (0.0,) * len(sample.response_ids))


def _most_uncertain(sample: DistillSample, scores: SampleScores, share: float) -> tuple[float, ...]:
    """Return the weights of the tokens at which the student's entropy is highest, 0 elsewhere; ties go to the earlier token."""
    weighted = [token for token, weight in enumerate(sample.token_weights) if weight]
    order = sorted(weighted, key=lambda token: -scores.student_entropy[token])
    kept = set(order[: math.ceil(share * len(weighted))])
    return tuple(weight * (token in kept) for token, weight in enumerate(sample.token_weights))
