"""Group-relative policy optimisation. Does not know teachers; rewards come with the samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, PositiveFloat

from rosd_kit.contracts import Objective, TokenScores
from rosd_kit.types import DistillSample

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


_LARGEST_LOG_RATIO = 20.0


class PolicyGradient(Objective):
    """GRPO: raises the probability of rollouts that beat their group's mean reward, with PPO's clipped ratio.

    Source: GRPO (arXiv 2402.03300); the wider upper clip and the mean over tokens are from DAPO (arXiv 2503.14476),
    the advantage without division from Dr. GRPO (arXiv 2503.20783). A group with equal rewards has advantage 0; its
    tokens still count in the mean.
    """

    name = "policy_gradient"
    needs = frozenset({"group"})

    class Config(Objective.Config):
        """Options of `policy_gradient`."""

        advantage: Literal["mean_std", "mean"] = "mean_std"
        """`mean`: reward minus the group's mean; `mean_std`: that, divided by the group's standard deviation."""
        clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
        """Lower clip of the ratio, at 1 - clip_low; takes effect where the advantage is negative."""
        clip_high: PositiveFloat = 0.28
        """Upper clip of the ratio, at 1 + clip_high; takes effect where the advantage is positive."""
        epsilon: PositiveFloat = 1e-6
        """Added to the standard deviation under `mean_std`: 1e-6 in verl, 1e-4 in TRL."""
        dual_clip: float | None = Field(default=None, gt=1.0)
        """Largest loss of a token with a negative advantage, in multiples of the absolute advantage (dual-clip PPO, arXiv
        1912.09729; verl uses 3); null sets no limit."""
        importance_cap: PositiveFloat | None = None
        """With a cap, the ratio is taken to the trainer's own log-probs before the step's first update, and a token's loss is
        multiplied by min(pi_old / pi_sampling, cap), verl's token-level truncated importance sampling. Null takes the ratio to
        the log-probs of sampling."""
        normalise: Literal["token", "sequence"] = "token"
        """`token`: mean over all tokens of the step; `sequence`: mean over sequences of each sequence's mean."""

    @property
    def needs_old(self) -> bool:
        """Return True with `importance_cap`."""
        return self.config.importance_cap is not None

    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return the gate's weight for each token, divided by the response's length under `sequence`."""
        length = len(sample.response_ids)
        weight = sample.weight if self.takes(sample) else 0.0
        if self.config.normalise == "sequence" and length:
            weight /= length
        return [weight] * length

    def advantage(self, sample: DistillSample) -> float:
        """Return the reward minus its group's mean, in sample standard deviations under `mean_std`."""
        rewards = sample.group_rewards
        if len(rewards) < 2:
            return 0.0
        gap = sample.reward - statistics.fmean(rewards)
        return gap / (statistics.stdev(rewards) + self.config.epsilon) if self.config.advantage == "mean_std" else gap

    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return -min(r A, clip(r) A) where r is the probability ratio of trained to sampling policy."""
        return self.surrogate(scores, scores.advantage)

    def surrogate(self, scores: TokenScores, advantage: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return the clipped loss for per-token advantages; the gradient flows only through the ratio's numerator."""
        advantage = advantage.detach()
        cap, behaviour = self.config.importance_cap, scores.behaviour.detach()
        old = behaviour if cap is None else scores.old_logprobs()
        ratio = (scores.current - old).clamp_max(_LARGEST_LOG_RATIO).exp()
        clipped = ratio.clamp(1 - self.config.clip_low, 1 + self.config.clip_high)
        loss = -(ratio * advantage).minimum(clipped * advantage)
        if self.config.dual_clip is not None:
            loss = torch.where(advantage < 0, loss.minimum(-self.config.dual_clip * advantage), loss)
        return loss if cap is None else loss * (old - behaviour).clamp_max(_LARGEST_LOG_RATIO).exp().clamp_max(cap)
