"""Shifts advantages by the contrast of right and wrong hints. It does not know the hints' texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat

import rosd_kit as rk
from rosd_kit_rlcsd.hints import RIGHT

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class RLCSD(rk.PolicyGradient):
    """GRPO with advantages shifted at tokens that a right hint makes more likely, or less likely, than wrong hints do.

    e_t = log P(y_t | right hint) - log mean_k P(y_t | wrong hint k); r_t = strength tanh(e_t / scale) where that exceeds the
    threshold in size, else 0; the advantage becomes A + r_t, or 0 if the sign changes. The effect of any hint on the style
    cancels in e_t. Source: RLCSD (arXiv 2606.11709), whose settings are the defaults. The paper averages over shifted and
    unshifted tokens separately; here all tokens share one mean, as in every other term.
    """

    name = "rlcsd"
    needs = frozenset({"group", "teacher_prompt", "contrast"})
    joins_views: ClassVar[bool] = True

    class Config(rk.PolicyGradient.Config):
        """The options of `policy_gradient`, and of the contrast."""

        clip_high: PositiveFloat = 0.2
        """Upper clip of the ratio, at 1 + clip_high; takes effect where the advantage is positive."""

        strength: NonNegativeFloat = 0.5
        """Largest shift of an advantage (lambda); 0 is GRPO."""
        scale: PositiveFloat = 0.02
        """Contrast, in nats, at which the shift reaches 0.76 of the largest one (tau)."""
        threshold: NonNegativeFloat = 0.02
        """Shifts up to this size are left out (delta)."""

    def view_marks(self, sample: rk.DistillSample) -> Sequence[float]:
        """Return 1 for a right hint and -1 for a wrong one."""
        return [1.0 if view.source.startswith(RIGHT) else -1.0 for view in sample.teacher_views]

    def per_token(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return the clipped loss `[tokens]`; without both a right and a wrong hint, the advantage is not shifted."""
        return self.surrogate(scores, self.shifted(scores.advantage, self.contrast(scores)))

    def contrast(self, scores: rk.TokenScores) -> Float[Tensor, " tokens"]:
        """Return e_t in nats, `[tokens]`, without gradient; 0 for tokens without both kinds of hint."""
        if not scores.views or scores.marks is None:
            return torch.zeros_like(scores.advantage)
        logprobs = scores.view_logprobs().clamp_min(torch.finfo(scores.student.dtype).min / 4)
        right, wrong = scores.marks > 0, scores.marks < 0
        both = right.any(0) & wrong.any(0)
        gap = _log_mean(logprobs, right) - _log_mean(logprobs, wrong)
        return gap.where(both, torch.zeros_like(gap)).detach()

    def shifted(self, advantage: Float[Tensor, " tokens"], contrast: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return the shifted advantages `[tokens]`; 0 for tokens whose sign would change."""
        shift: Tensor = self.config.strength * (contrast / self.config.scale).tanh()
        shift = torch.where(shift.abs() > self.config.threshold, shift, torch.zeros_like(shift))
        sign = advantage.sign()
        return sign * (sign * (advantage + shift)).clamp_min(0.0)


def _log_mean(logp: Float[Tensor, "views tokens"], chosen: Tensor) -> Float[Tensor, " tokens"]:
    """Return the log of the mean probability over the chosen views of each token; 0 if none is chosen."""
    count = chosen.sum(0)
    floor = torch.finfo(logp.dtype).min / 2
    total = logp.masked_fill(~chosen, floor).logsumexp(0) - count.clamp_min(1).log()
    return total.where(count > 0, torch.zeros_like(total))
