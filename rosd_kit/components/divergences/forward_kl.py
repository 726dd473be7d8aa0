"""KL(teacher || student). Knows neither the support nor where the log-probs come from."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from rosd_kit.components.divergences.numerics import floored
from rosd_kit.contracts import Divergence


class ForwardKL(Divergence):
    """KL(T||S) = sum_y T(y) (log T(y) - log S(y)): the student must cover all that the teacher finds likely.

    Gradient in the student's logits: S - T. Source: GKD (arXiv 2306.13649), where it is the limit beta = 0.
    """

    name = "forward_kl"

    def per_token(self, student: Float[Tensor, "tokens k"], teacher: Float[Tensor, "tokens k"]) -> Float[Tensor, " tokens"]:
        """Return KL(T||S) in nats, `[tokens]`."""
        log_s, log_t = floored(student), floored(teacher)
        return (log_t.exp() * (log_t - log_s)).sum(-1)
