"""Draws tokens from logits, as each request's sampling options say. Knows neither models nor caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rosd_kit.types import GenerateRequest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenSampler:
    """The sampling options of a batch's requests, `[requests]` each."""

    temperature: Tensor
    greedy: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    any_greedy: bool = False
    all_greedy: bool = False
    any_limit: bool = False
    without_token: Tensor | None = None

    @classmethod
    def of(cls, requests: Sequence[GenerateRequest], device: torch.device, without_token: Sequence[int] = ()) -> TokenSampler:
        """Return the sampler of these requests; `without_token` are the ids for which the tokenizer has no token."""
        asked = [request.sampling for request in requests]
        return cls(
            temperature=torch.tensor([one.temperature or 1.0 for one in asked], device=device),
            greedy=torch.tensor([one.temperature == 0 for one in asked], device=device),
            top_k=torch.tensor([one.top_k for one in asked], device=device),
            top_p=torch.tensor([float(one.top_p) for one in asked], device=device),
            min_p=torch.tensor([float(one.min_p) for one in asked], device=device),
            any_greedy=any(one.temperature == 0 for one in asked),
            all_greedy=all(one.temperature == 0 for one in asked),
            any_limit=any(one.top_k > 0 or one.top_p < 1 or one.min_p > 0 for one in asked),
            without_token=torch.tensor(without_token, device=device) if without_token else None,
        )

    def draw(self, logits: Tensor, uniform: Tensor, requests: Tensor) -> tuple[Tensor, Tensor]:
        """Return one token per row and its log-prob, both `[rows]`; `requests` are the indices of the rows' requests.

        Ids for which the tokenizer has no token are never drawn. Log-probs are at the sampling temperature, over the whole
        distribution: those ids included, and whatever `top_k`, `top_p` and `min_p` leave out.
        """
        logprobs = torch.log_softmax(logits.float() / self.temperature[requests, None], dim=-1)
        if self.without_token is not None:
            logits = logits.index_fill(1, self.without_token, -torch.inf)
        if self.all_greedy:
            tokens = logits.argmax(-1)
            return tokens, logprobs.gather(1, tokens[:, None]).squeeze(1)
        probs = logprobs.exp()
        if self.without_token is not None:
            probs = probs.index_fill(1, self.without_token, 0.0)
        if self.any_limit:
            limits = (limit[requests, None] for limit in (self.top_k, self.top_p, self.min_p))
            probs = limited(probs, *limits)
        cumulative = probs.double().cumsum(-1)
        # The first entry whose cumulative probability exceeds the uniform number; that one never has probability 0.
        index = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
        tokens = index.clamp(max=probs.shape[-1] - 1).squeeze(1)
        if self.any_greedy:
            tokens = torch.where(self.greedy[requests], logits.argmax(-1), tokens)
        return tokens, logprobs.gather(1, tokens[:, None]).squeeze(1)


def limited(probs: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Set to zero the probabilities `[rows, vocab]` that a row's limits `[rows, 1]` leave out, one limit after the other.

    `top_k` keeps so many of the likeliest tokens, `top_p` the fewest of those whose share of their probability reaches it, and
    `min_p` those with at least that share of the likeliest token's probability. 0, 1 and 0 keep everything. The order is that
    of transformers; what is left is not scaled to sum to 1.
    """
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ranked.shape[-1], device=ranked.device)
    by_rank = top_k > 0
    ranked = ranked.masked_fill(by_rank & (rank >= top_k), 0.0)
    cumulative = ranked.cumsum(-1)
    whole = torch.where(by_rank, cumulative[:, -1:], 1.0)
    outside = (cumulative - ranked >= top_p * whole) & (top_p < 1)
    outside = outside | (ranked < min_p * ranked[:, :1])
    return torch.zeros_like(probs).scatter(1, order, ranked.masked_fill(outside, 0.0))
