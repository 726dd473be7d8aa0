"""The entries the student finds likeliest. Knows nothing of the divergence taken on them."""

from __future__ import annotations

from jaxtyping import Float, Int
from pydantic import PositiveInt
from torch import Tensor

from rosd_kit.components.supports.buckets import bucketed, top_indices
from rosd_kit.contracts import Projection, Support


class StudentTopK(Support):
    """The student's k likeliest entries, and one bucket for all others.

    With the tail this is a coarse-graining: it never exceeds the full divergence, grows with k, and equals it from
    k = vocabulary on. Without the tail both sides are renormalised, which is no bound. Source: ROSD (arXiv 2605.28014)
    and SDPO (arXiv 2601.20802), k = 100 with the tail.
    """

    name = "student_topk"

    class Config(Support.Config):
        """Options of `student_topk`."""

        k: PositiveInt = 100
        """How many entries; from the size of the vocabulary on, the support is the full one."""
        tail: bool = True
        """Whether the other entries form one bucket; if not, the k entries are renormalised."""

    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Return log-probs `[tokens, k + 1]` with the tail last, or `[tokens, k]` without it."""
        if self.config.k >= student.shape[-1]:
            return Projection(student=student, teacher=teacher)
        indices = top_indices(student, self.config.k)
        return Projection(
            student=bucketed(student, indices, tail=self.config.tail),
            teacher=bucketed(teacher, indices, tail=self.config.tail),
        )
