"""Weights advantages per token by an informed teacher. It does not know what the teacher reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field

import rosd_kit as rk

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class RLSD(rk.PolicyGradient):
    """GRPO with advantages weighted per token: the verifier sets the direction of the update, the teacher the size.

    A_t = A ((1 - mix) + mix clip(w_t, 1 - clip_weight, 1 + clip_weight)), w_t = (P_T(y_t) / P_S(y_t))^sign(A), without
    gradient. The weight is positive, so no token's sign changes. Source: RLSD (arXiv 2604.03128); the authors' settings are
    mix 0.5 and clip 0.2. They decay the mix to 0 over 50 steps, which a recipe writes as a schedule.
    """

    name = "rlsd"
    needs = frozenset({"group", "teacher_prompt"})
    joins_views: ClassVar[bool] = True

    class Config(rk.PolicyGradient.Config):
        """The options of `policy_gradient`, and of the weight."""

        mix: float = Field(default=0.5, ge=0.0, le=1.0)
        """Share of the teacher's weight in the factor; 0 is GRPO."""
        clip_weight: float = Field(default=0.2, ge=0.0, lt=1.0)
        """The weight is clipped to 1 - clip_weight .. 1 + clip_weight; 0 is GRPO."""

    def per_token(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return the clipped loss `[tokens]`; a token without a teacher view keeps its plain advantage."""
        return self.surrogate(scores, scores.advantage * self.weights(scores))

    def weights(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return the factor of each advantage, `[tokens]`, without gradient. Several views count as their mean logprob."""
        ones = scores.advantage.new_ones(scores.advantage.shape)
        if not scores.views or scores.marks is None:
            return ones
        views = (scores.marks != 0).sum(0)
        teacher = scores.view_logprobs().sum(0) / views.clamp_min(1)
        gain = teacher - scores.sampled_logprobs().detach()
        # Weights beyond e^20 are clipped below anyway; the clamp keeps exp finite.
        ratio = (scores.advantage.sign() * gain).clamp(-20.0, 20.0).exp()
        clip = self.config.clip_weight
        mixed: Tensor = 1 - self.config.mix + self.config.mix * ratio.clamp(1 - clip, 1 + clip)
        return torch.where(views > 0, mixed, ones).detach()
