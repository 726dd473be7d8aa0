"""Truncated importance sampling. Does not know the loss it weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from rosd_kit.contracts import Correction

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Truncated(Correction):
    """Weights each token by its probability ratio, trained to sampling policy, capped at `cap`.

    It corrects for rollouts that are a few updates old and for engines whose log-probs differ from the trainer's.
    Source: ROSD (arXiv 2605.28014), min(pi_old / pi_rollout, 2).
    """

    name = "truncated"
    provides = frozenset({"off_policy"})

    class Config(Correction.Config):
        """Options of `truncated`."""

        cap: PositiveFloat = 2.0
        """Largest weight. The cap adds bias but keeps the variance finite."""
        level: Literal["token", "sequence"] = "token"
        """`sequence` gives all tokens of a response one weight, from the mean of their log-ratios, measured before the step's
        first update; this costs one more forward pass."""

    @property
    def by_sequence(self) -> bool:
        """Whether the level is `sequence`."""
        return bool(self.config.level == "sequence")

    def weigh(self, behaviour: Float[Tensor, " tokens"], current: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return min(exp(current - behaviour), cap), `[tokens]`, without gradient; under `sequence` of the mean difference."""
        gap = current - behaviour
        if self.by_sequence:
            gap = gap.mean().expand_as(gap)
        return gap.exp().clamp_max(self.config.cap).detach()
