"""KL(teacher || student). Does not know the support or the source of the log-probs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.components.divergences.entries import EntrySum

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ForwardKL(EntrySum):
    """KL(T||S) = sum_y T(y) (log T(y) - log S(y)): the student must cover everything the teacher finds likely.

    Gradient with respect to the student's logits: S - T. Source: GKD (arXiv 2306.13649), the limit beta = 0.
    """

    name = "forward_kl"

    def entries(self, log_s: Float[Tensor, "tokens k"], log_t: Float[Tensor, "tokens k"]) -> Float[Tensor, "tokens k"]:
        """Return T (log T - log S), `[tokens, k]`."""
        return log_t.exp() * (log_t - log_s)
