"""The entries the student finds likeliest. Does not know the divergence taken on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.components.supports.topk import TopK

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class StudentTopK(TopK):
    """Keeps the student's k likeliest entries, plus one bucket for all others.

    With the tail this is a coarse-graining: it never exceeds the full divergence, grows with k, and equals it once k
    reaches the vocabulary. Without the tail both sides are renormalised, which gives no bound. Source: ROSD
    (arXiv 2605.28014) and SDPO (arXiv 2601.20802), k = 100 with the tail.
    """

    name = "student_topk"

    def ranking(
        self, student: Float[Tensor, "tokens vocab"], teacher: Float[Tensor, "tokens vocab"]
    ) -> Float[Tensor, "tokens vocab"]:
        """Return the student's log-probs."""
        return student
