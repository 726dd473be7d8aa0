"""Localizes by divergence. Does not know quotes or errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from rosd_kit.components.localizers.weights import everywhere
from rosd_kit.contracts import Localizer
from rosd_kit.types import Case, DistillSample, SampleScores, TokenWeights


class TopDivergence(Localizer):
    """Weights the tokens of each response where student and teacher diverge most.

    Needs no reflection, but one more forward pass of both networks. It finds where the privileged text changes the
    teacher's predictions, which need not be where the error begins.
    """

    name = "top_divergence"
    needs = frozenset({"divergence"})
    locates = False
    refines = True

    class Config(Localizer.Config):
        """Options of `top_divergence`."""

        share: float = Field(default=0.2, gt=0.0, le=1.0)
        """Share of each response's tokens to weight, rounded up; ties go to the earlier token."""

    def locate(self, case: Case) -> TokenWeights:
        return everywhere(case.rollout.completion, "full")

    def refine(self, sample: DistillSample, scores: SampleScores) -> Sequence[float]:
        length = len(sample.response_ids)
        order = sorted(range(length), key=lambda token: -scores.divergence[token])
        kept = set(order[: math.ceil(self.config.share * length)])
        return [weight * (token in kept) for token, weight in enumerate(sample.token_weights)]
