"""The contrast of hints as a change of the advantage. Knows nothing of the hints' texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

import rosd_kit as rk
from rosd_kit_rlcsd.hints import RIGHT


class RLCSD(rk.PolicyGradient):
    """GRPO whose advantage is moved where a right hint makes a token likelier than wrong hints do.

    e_t = log P(y_t | right hint) - log mean_k P(y_t | wrong hint k); r_t = strength tanh(e_t / scale) where |e_t| > threshold,
    else 0; the advantage becomes A + r_t, but never of the other sign. What any hint does to the style cancels in e_t. Source:
    RLCSD (arXiv 2606.11709), whose settings are the defaults. The paper takes the mean over moved and unmoved tokens
    separately; here all tokens have one mean, as in every other term.
    """

    name = "rlcsd"
    needs = frozenset({"group", "teacher_prompt", "contrast"})
    joins_views: ClassVar[bool] = True

    class Config(rk.PolicyGradient.Config):
        """The options of `policy_gradient`, and of the contrast."""

        strength: NonNegativeFloat = 0.5
        """The most that an advantage is moved by (lambda); 0 is GRPO."""
        scale: PositiveFloat = 0.02
        """Contrast, in nats, at which the move has reached 0.76 of the most (tau)."""
        threshold: NonNegativeFloat = 0.02
        """Contrasts up to this many nats move nothing (delta)."""

    def view_marks(self, sample: rk.DistillSample) -> Sequence[float]:
        """Return 1 for a right hint and -1 for a wrong one."""
        return [1.0 if view.source.startswith(RIGHT) else -1.0 for view in sample.teacher_views]

    def per_token(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return the clipped loss `[tokens]`; without a right and a wrong hint the advantage stays as it is."""
        return self.surrogate(scores, self.moved(scores.advantage, self.contrast(scores)))

    def contrast(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return e_t in nats, `[tokens]`, without gradient; 0 where a kind of hint is lacking."""
        if not scores.views or scores.marks is None:
            return torch.zeros_like(scores.advantage)
        found = scores.view_logprobs().clamp_min(torch.finfo(scores.student.dtype).min / 4)
        right, wrong = scores.marks > 0, scores.marks < 0
        both = right.any(0) & wrong.any(0)
        gap = _log_mean(found, right) - _log_mean(found, wrong)
        return gap.where(both, torch.zeros_like(gap)).detach()

    def moved(self, advantage: Float[Tensor, " tokens"], contrast: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return the advantages after the move, `[tokens]`: where it would turn the sign they are 0."""
        move: Tensor = self.config.strength * (contrast / self.config.scale).tanh()
        move = torch.where(contrast.abs() > self.config.threshold, move, torch.zeros_like(move))
        sign = advantage.sign()
        return sign * (sign * (advantage + move)).clamp_min(0.0)


def _log_mean(logp: Float[Tensor, "views tokens"], chosen: Tensor) -> Float[Tensor, " tokens"]:
    """Return the log of the mean probability over some views of each token; 0 where none is chosen."""
    count = chosen.sum(0)
    floor = torch.finfo(logp.dtype).min / 2
    total = logp.masked_fill(~chosen, floor).logsumexp(0) - count.clamp_min(1).log()
    return total.where(count > 0, torch.zeros_like(total))
