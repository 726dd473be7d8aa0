"""The base of the top-k supports. Does not know the divergence taken on them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from rosd_kit.components.supports.buckets import bucketed, top_indices
from rosd_kit.contracts import Projection, Support

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class TopK(Support):
    """Base of supports that keep k entries per token, chosen by the log-probs that `ranking` returns."""

    class Config(Support.Config):
        """Options of the top-k supports."""

        k: PositiveInt = 100
        """Number of entries; if it reaches the size of the vocabulary, the support is the full one."""
        tail: bool = True
        """Whether the other entries form one bucket; if not, the k entries are renormalised."""

    @abstractmethod
    def ranking(
        self, student: Float[Tensor, "tokens vocab"], teacher: Float[Tensor, "tokens vocab"]
    ) -> Float[Tensor, "tokens vocab"]:
        """Return the log-probs whose k largest entries are kept."""

    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Return log-probs `[tokens, k + 1]` with the tail last, or `[tokens, k]` without it."""
        if self.config.k >= student.shape[-1]:
            return Projection(student=student, teacher=teacher)
        indices = top_indices(self.ranking(student, teacher), self.config.k)
        return Projection(
            student=bucketed(student, indices, tail=self.config.tail),
            teacher=bucketed(teacher, indices, tail=self.config.tail),
        )
