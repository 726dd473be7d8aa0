"""The whole vocabulary. Knows nothing of memory: the chunks are cut elsewhere."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.contracts import Projection, Support


class Full(Support):
    """Every vocabulary entry: the exact divergence."""

    name = "full"

    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Return the log-probs as they are."""
        return Projection(student=student, teacher=teacher)
