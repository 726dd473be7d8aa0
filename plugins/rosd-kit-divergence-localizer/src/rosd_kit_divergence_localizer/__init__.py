"""Chooses token weights after student and teacher have scored a response. It does not know quotes, errors or reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat

import rosd_kit as rk

rosd_kit_api = 2


class Parting(rk.Localizer):
    """Weights the tokens where student and teacher differ most; needs no reflection.

    Sources: `gap` is the token advantage of OPSD (arXiv 2601.18734) with the sign reversed; `student_entropy` is the
    criterion of "Beyond the 80/20 rule" (arXiv 2506.01939); the discount is SRPO's (arXiv 2604.02288).
    """

    name = "parting"
    needs = frozenset({"divergence"})
    locates = False
    refines = True

    class Config(rk.Localizer.Config):
        """The measure per token, and the weights made from it."""

        measure: Literal["divergence", "gap", "student_entropy"] = "divergence"
        """`divergence`: the loss itself. `gap`: log p(student) - log p(teacher) of the sampled token if positive, so tokens
        that the teacher finds less likely. `student_entropy`: tokens where the student was undecided."""
        discount: NonNegativeFloat = 0.0
        """The measure is multiplied by exp(-discount * the teacher's entropy): an uncertain teacher counts less."""
        keep: float = Field(default=0.2, gt=0.0, le=1.0)
        """Share of each response's tokens to select, rounded up; tokens with a measure of 0 are never selected."""
        shape: Literal["top", "onward", "soft"] = "top"
        """`top`: weight 1 on the selected tokens. `onward`: weight 1 from the first of them to the end. `soft`: on the
        selected tokens their measure divided by the largest one."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        """Return weight 1 everywhere: every token must be scored before `refine` selects some."""
        return rk.everywhere(case.rollout.completion, "scored")

    def refine(self, sample: rk.DistillSample, scores: rk.SampleScores) -> Sequence[float]:
        """Return the weights that follow from the measures, times the previous weights."""
        measures = self.measures(scores)
        length = len(measures)
        order = sorted(range(length), key=lambda token: (-measures[token], token))
        kept = {token for token in order[: math.ceil(self.config.keep * length)] if measures[token] > 0}
        largest = max(measures, default=0.0)
        first = min(kept, default=length)
        chosen = {
            "top": [float(token in kept) for token in range(length)],
            "onward": [float(token >= first) for token in range(length)],
            "soft": [m / largest if token in kept else 0.0 for token, m in enumerate(measures)],
        }[self.config.shape]
        return [weight * previous for weight, previous in zip(chosen, sample.token_weights, strict=True)]

    def measures(self, scores: rk.SampleScores) -> list[float]:
        """Return one number >= 0 per token."""
        measures = {
            "divergence": [max(0.0, d) for d in scores.divergence],
            "gap": [max(0.0, s - t) for s, t in zip(scores.student, scores.teacher, strict=True)],
            "student_entropy": [max(0.0, h) for h in scores.student_entropy],
        }[self.config.measure]
        if not self.config.discount:
            return measures
        factors = [math.exp(-self.config.discount * h) for h in scores.teacher_entropy]
        return [measure * factor for measure, factor in zip(measures, factors, strict=True)]


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [Parting]
