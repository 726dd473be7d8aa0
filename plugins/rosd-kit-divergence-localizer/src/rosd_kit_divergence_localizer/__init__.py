"""Weights that are chosen once student and teacher have scored a response. Knows nothing of quotes, errors or reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat

import rosd_kit as rk

rosd_kit_api = 2


class Parting(rk.Localizer):
    """Weights the tokens at which student and teacher part most; asks for no reflection.

    Sources: `gap` is what OPSD (arXiv 2601.18734) calls the token's advantage, with its sign turned; `student_entropy` is
    the criterion of "Beyond the 80/20 rule" (arXiv 2506.01939); the discount is SRPO's (arXiv 2604.02288).
    """

    name = "parting"
    needs = frozenset({"divergence"})
    locates = False
    refines = True

    class Config(rk.Localizer.Config):
        """What is measured at each token, and what becomes of it."""

        measure: Literal["divergence", "gap", "student_entropy"] = "divergence"
        """`divergence`: the loss itself. `gap`: log p(student) - log p(teacher) of the sampled token where that is positive,
        so what the teacher would rather not have said. `student_entropy`: where the student might have gone another way."""
        discount: NonNegativeFloat = 0.0
        """The measure is multiplied by exp(-discount * the teacher's entropy): an unsure teacher counts less."""
        keep: float = Field(default=0.2, gt=0.0, le=1.0)
        """Share of each response's tokens that count as parting, rounded up; tokens that measure 0 never do."""
        shape: Literal["top", "onward", "soft"] = "top"
        """`top`: weight 1 on these tokens. `onward`: weight 1 from the first of them to the end. `soft`: on these tokens
        their measure over its largest value."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        """Return weight 1 everywhere: every token has to be scored before any can be chosen."""
        return rk.everywhere(case.rollout.completion, "scored")

    def refine(self, sample: rk.DistillSample, scores: rk.SampleScores) -> Sequence[float]:
        """Return the weights that the measures ask for, times those that were there before."""
        measures = self.measures(scores)
        length = len(measures)
        order = sorted(range(length), key=lambda token: (-measures[token], token))
        kept = {token for token in order[: math.ceil(self.config.keep * length)] if measures[token] > 0}
        largest = max(measures, default=0.0)
        begun = min(kept, default=length)
        chosen = {
            "top": [float(token in kept) for token in range(length)],
            "onward": [float(token >= begun) for token in range(length)],
            "soft": [m / largest if token in kept else 0.0 for token, m in enumerate(measures)],
        }[self.config.shape]
        return [weight * before for weight, before in zip(chosen, sample.token_weights, strict=True)]

    def measures(self, scores: rk.SampleScores) -> list[float]:
        """Return one number >= 0 a token."""
        found = {
            "divergence": [max(0.0, d) for d in scores.divergence],
            "gap": [max(0.0, s - t) for s, t in zip(scores.student, scores.teacher, strict=True)],
            "student_entropy": [max(0.0, h) for h in scores.student_entropy],
        }[self.config.measure]
        if not self.config.discount:
            return found
        sure = [math.exp(-self.config.discount * h) for h in scores.teacher_entropy]
        return [m * share for m, share in zip(found, sure, strict=True)]


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [Parting]
