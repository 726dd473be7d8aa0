"""Truncated importance sampling. Knows nothing of the loss that it weighs."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from rosd_kit.contracts import Correction


class Truncated(Correction):
    """The ratio of the trained policy to the sampling one, at most `cap`.

    It makes up for rollouts that are a few updates old and for engines that compute other log-probs than the trainer.
    Source: ROSD (arXiv 2605.28014), min(pi_old / pi_rollout, 2).
    """

    name = "truncated"
    provides = frozenset({"off_policy"})

    class Config(Correction.Config):
        """Options of `truncated`."""

        cap: PositiveFloat = 2.0
        """The largest weight; the bias that it brings keeps the variance finite."""

    def weigh(self, behaviour: Float[Tensor, " tokens"], current: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return min(exp(current - behaviour), cap), `[tokens]`, without gradient."""
        return (current - behaviour).exp().clamp_max(self.config.cap).detach()
