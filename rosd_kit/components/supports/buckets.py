"""Keeps chosen vocabulary entries and folds the rest away. Knows nothing of who chose them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.components.divergences.numerics import LOG_ZERO


def top_indices(logp: Float[Tensor, "tokens vocab"], k: int) -> Int[Tensor, "tokens k"]:
    """Return the places of the k largest entries of each row, in no particular order and without gradient."""
    return logp.detach().topk(k, dim=-1, sorted=False).indices


def bucketed(
    logp: Float[Tensor, "tokens vocab"], indices: Int[Tensor, "tokens k"], *, tail: bool
) -> Float[Tensor, "tokens buckets"]:
    """Return log-probs on the chosen entries plus one bucket for all others, or renormalised without it.

    The tail is summed over the other entries themselves. The shorter log(1 - sum of the chosen) loses every digit of
    the tail and of its gradient in float32 when the chosen entries hold nearly all the mass, which is the usual case.
    """
    chosen = logp.gather(-1, indices)
    if not tail:
        return chosen.log_softmax(-1)
    rest = logp.scatter(-1, indices, LOG_ZERO).logsumexp(-1, keepdim=True)
    return torch.cat([chosen, rest], dim=-1)
