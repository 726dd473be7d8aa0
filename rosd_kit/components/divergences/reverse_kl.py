"""KL(student || teacher), exact or estimated from the sampled token. Does not know the support or the sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.components.divergences.entries import EntrySum
from rosd_kit.components.divergences.numerics import floored

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ReverseKL(EntrySum):
    """KL(S||T) = sum_y S(y) (log S(y) - log T(y)): the student concentrates on what the teacher finds likely.

    Gradient with respect to the student's logits: S (log S - log T - KL). Source: GKD (arXiv 2306.13649), the limit beta = 1.
    """

    name = "reverse_kl"
    provides = frozenset({"sampled"})

    def entries(self, log_s: Float[Tensor, "tokens k"], log_t: Float[Tensor, "tokens k"]) -> Float[Tensor, "tokens k"]:
        """Return S (log S - log T), `[tokens, k]`."""
        return log_s.exp() * (log_s - log_t)

    def sampled(self, student: Float[Tensor, " tokens"], teacher: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return the one-sample estimate log S - log T, `[tokens]`, which may be negative.

        Its gradient is (log S - log T) grad log S, the score-function estimator: for tokens drawn from S, value and
        gradient equal those of KL(S||T) in expectation.
        """
        log_s, log_t = floored(student), floored(teacher)
        gap = (log_s - log_t).detach()
        return gap * (1 + log_s - log_s.detach())
