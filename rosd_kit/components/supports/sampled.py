"""The sampled token alone. Knows nothing of the policy that sampled it."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.contracts import Projection, Support


class Sampled(Support):
    """Only the token that was sampled: the cheapest signal and the noisiest, unbiased for on-policy reverse KL.

    Needs a divergence that can be estimated from one sample. Unbiased where tokens were drawn from the student itself
    at temperature 1; use a correction where they were not.
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
