"""The sampled token alone. Does not know the policy that sampled it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosd_kit.contracts import Projection, Support

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Sampled(Support):
    """Keeps only the sampled token: the cheapest and noisiest signal, unbiased for on-policy reverse KL.

    Needs a divergence that can be estimated from one sample. Unbiased if the tokens were drawn from the student itself
    at temperature 1; otherwise use a correction.
    """

    name = "sampled"
    needs = frozenset({"sampled"})

    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Return the log-probs of the sampled tokens, `[tokens, 1]`, marked as sampled."""
        index = sampled[:, None]
        return Projection(student=student.gather(1, index), teacher=teacher.gather(1, index), sampled=True)
