"""Keeps chosen vocabulary entries and folds the rest into one bucket. Does not know who chose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


#: With fewer vocabulary entries than this per wanted entry, the two-step search is no faster.
_TWO_STEP_RATIO = 256


def top_indices(logp: Float[Tensor, "tokens vocab"], k: int) -> Int[Tensor, "tokens k"]:
    """Return the indices of the k largest entries of each row, in no particular order and without gradient.

    In a large vocabulary the search has two steps: the k blocks of entries with the largest maxima contain the k
    largest entries, so only these blocks are searched. The result is exact; ties are broken arbitrarily.
    """
    logp, vocabulary = logp.detach(), logp.shape[-1]
    if vocabulary < _TWO_STEP_RATIO * k:
        return logp.topk(k, dim=-1, sorted=False).indices
    size = int((vocabulary / k) ** 0.5)
    blocks = vocabulary // size  # block b holds the entries b, b + blocks, b + 2 * blocks, ...
    maxima = logp[:, : blocks * size].reshape(-1, size, blocks).amax(1)
    best = maxima.topk(k, dim=-1, sorted=False).indices
    in_blocks = (best[:, None, :] + blocks * torch.arange(size, device=logp.device)[:, None]).flatten(1)
    remainder = torch.arange(blocks * size, vocabulary, device=logp.device).expand(len(logp), -1)
    candidates = torch.cat([in_blocks, remainder], dim=-1)
    return candidates.gather(-1, logp.gather(-1, candidates).topk(k, dim=-1, sorted=False).indices)


def bucketed(
    logp: Float[Tensor, "tokens vocab"], indices: Int[Tensor, "tokens k"], *, tail: bool
) -> Float[Tensor, "tokens buckets"]:
    """Return log-probs of the chosen entries plus one bucket for all others; without `tail`, renormalised instead.

    The tail is summed over the other entries themselves. The shorter log(1 - sum of the chosen) loses every digit of
    the tail and its gradient in float32 when the chosen entries hold nearly all the mass, which is the usual case.
    """
    if tail:
        from rosd_kit.components.supports.tail import WithTail

        with_tail: Tensor = WithTail.apply(logp, indices)  # type: ignore[no-untyped-call]
        return with_tail
    return logp.gather(-1, indices).log_softmax(-1)
