"""Which loss a rollout goes to, and how much an unsure teacher counts. Knows neither loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, NonNegativeFloat

import rosd_kit as rk

rosd_kit_api = 2
_TERM = r"^[a-z][a-z0-9_]*$"


class RightOrWrong(rk.Gate):
    """Sends wrong rollouts with a right sibling to distillation and all others to the policy gradient.

    Source: SRPO (arXiv 2604.02288), z = (1 - success) * (there is something to distil from).
    """

    name = "right_or_wrong"
    needs = frozenset({"group"})

    class Config(rk.Gate.Config):
        """The two terms of the loss."""

        reinforce: str = Field(default="policy_gradient", pattern=_TERM)
        """The term that right rollouts go to, and wrong ones without a right sibling."""
        distil: str = Field(default="distill", pattern=_TERM)
        """The term that the other wrong rollouts go to."""

    def decide(self, group: rk.Group) -> rk.GateDecision:
        """Return every rollout with its route."""
        right = sum(rollout.verdict.success for rollout in group.rollouts)
        outcome = "all_wrong" if right == 0 else "all_right" if right == len(group.rollouts) else "mixed"
        return rk.GateDecision(
            outcome=outcome,
            passed=tuple(
                rk.Passed(
                    index=rollout.index,
                    route=self.config.distil if right and not rollout.verdict.success else self.config.reinforce,
                )
                for rollout in group.rollouts
            ),
        )


class SureTeacher(rk.Localizer):
    """Weights each token by how sure the teacher is there: exp(-beta H), H the entropy of its distribution in nats.

    The loss is divided by the sum of the weights of the whole step, so their mean is 1 as in the source, SRPO
    (arXiv 2604.02288). Needs no reflection, and one more pass of both networks.
    """

    name = "sure_teacher"
    needs = frozenset({"divergence"})
    locates = False
    refines = True

    class Config(rk.Localizer.Config):
        """How much certainty counts."""

        beta: NonNegativeFloat = 1.0
        """0 weighs all tokens alike."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        """Return weight 1 everywhere: every token has to be scored first."""
        return rk.everywhere(case.rollout.completion, "scored")

    def refine(self, sample: rk.DistillSample, scores: rk.SampleScores) -> Sequence[float]:
        """Return exp(-beta H) times the weights that were there before."""
        pairs = zip(sample.token_weights, scores.teacher_entropy, strict=True)
        return [weight * math.exp(-self.config.beta * entropy) for weight, entropy in pairs]


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [RightOrWrong, SureTeacher]
