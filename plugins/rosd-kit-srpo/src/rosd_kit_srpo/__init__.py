"""Routes rollouts to two terms of the loss, and weights tokens by the teacher's certainty. It does not know the losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, NonNegativeFloat

import rosd_kit as rk

rosd_kit_api = 2
_TERM = r"^[a-z][a-z0-9_]*$"


class RightOrWrong(rk.Gate):
    """Routes wrong rollouts with a right sibling to distillation and all others to the policy gradient.

    Source: SRPO (arXiv 2604.02288), z = (1 - success) * 1[there is a demonstration].
    """

    name = "right_or_wrong"
    needs = frozenset({"group"})

    class Config(rk.Gate.Config):
        """The two terms of the loss."""

        reinforce: str = Field(default="policy_gradient", pattern=_TERM)
        """Term for right rollouts, and for wrong ones without a right sibling."""
        distil: str = Field(default="distill", pattern=_TERM)
        """Term for the other wrong rollouts."""

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
    """Weights each token by the teacher's certainty, exp(-beta H), where H is the entropy of its distribution in nats.

    The engine divides by the sum of the weights of the whole step, so their mean is 1 as in the source, SRPO
    (arXiv 2604.02288). Needs no reflection, but one more pass of both networks.
    """

    name = "sure_teacher"
    needs = frozenset({"divergence"})
    locates = False
    refines = True

    class Config(rk.Localizer.Config):
        """The strength of the weighting."""

        beta: NonNegativeFloat = 1.0
        """Factor of the entropy; 0 gives all tokens the same weight."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        """Return weight 1 everywhere: every token must be scored before `refine` weights it."""
        return rk.everywhere(case.rollout.completion, "scored")

    def refine(self, sample: rk.DistillSample, scores: rk.SampleScores) -> Sequence[float]:
        """Return exp(-beta H) times the previous weights."""
        pairs = zip(sample.token_weights, scores.teacher_entropy, strict=True)
        return [weight * math.exp(-self.config.beta * entropy) for weight, entropy in pairs]


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [RightOrWrong, SureTeacher]
