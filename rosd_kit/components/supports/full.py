"""The whole vocabulary. Does not know memory limits: tokens are cut into chunks elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.contracts import Projection, Support

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Full(Support):
    """Keeps every vocabulary entry: the exact divergence."""

    name = "full"

    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Return the log-probs unchanged."""
        return Projection(student=student, teacher=teacher)
