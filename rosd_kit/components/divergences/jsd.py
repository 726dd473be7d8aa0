"""The generalised Jensen-Shannon divergence. Does not know the support or the source of the log-probs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from rosd_kit.components.divergences.entries import EntrySum

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class JSD(EntrySum):
    """JSD_beta = beta KL(T||M) + (1-beta) KL(S||M) with M = beta T + (1-beta) S: bounded, between the two KLs.

    Gradient with respect to the student's logits: (1-beta) S (log S - log M - KL(S||M)). Near T = S it is about
    beta (1-beta) times a KL, so at beta = 0.5 the gradient is a quarter of KL's. Source: GKD (arXiv 2306.13649),
    equation 1; ROSD and SDPO use beta = 0.5. By convention beta = 0 and 1 mean the KLs: use `forward_kl` and `reverse_kl`.
    """

    name = "jsd"

    class Config(EntrySum.Config):
        """Options of `jsd`."""

        beta: float = Field(default=0.5, gt=0.0, lt=1.0)
        """The teacher's share in the mixture; near 0 it behaves like forward KL, near 1 like reverse KL."""

    def entries(self, log_s: Float[Tensor, "tokens k"], log_t: Float[Tensor, "tokens k"]) -> Float[Tensor, "tokens k"]:
        """Return beta T (log T - log M) + (1-beta) S (log S - log M), `[tokens, k]`; they sum to at most h(beta)."""
        beta: float = self.config.beta
        log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
        from_teacher = beta * log_t.exp() * (log_t - log_m)
        from_student = (1 - beta) * log_s.exp() * (log_s - log_m)
        return from_teacher + from_student
