"""The entries the teacher finds likeliest. Does not know the divergence taken on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.components.supports.topk import TopK

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class TeacherTopK(TopK):
    """Keeps the teacher's k likeliest entries, plus one bucket for all others.

    The same coarse-graining as `student_topk`, on the entries the teacher finds likely. Source: OPSD
    (arXiv 2601.18734), which renormalises (`tail: false`).
    """

    name = "teacher_topk"

    def ranking(
        self, student: Float[Tensor, "tokens vocab"], teacher: Float[Tensor, "tokens vocab"]
    ) -> Float[Tensor, "tokens vocab"]:
        """Return the teacher's log-probs."""
        return teacher
