"""Attention along the paths of a tree of texts, in one row without padding: each token sees its own text and nothing else.

Registered with transformers as an attention of its own, it runs torch's scaled dot-product attention segment by segment,
over the keys of what leads there. Architectures need not know: all that hand attention to transformers' interface have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

#: The name of this attention among those of transformers.
NAME = "rosd_kit_branching"

KeysAndValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Branches:
    """How one row is cut: the lengths of the segments, and for each those that it goes on from, outermost first.

    `past` are keys and values, by layer, of tokens that all segments go on from; `made` collects those of the row, if wanted.
    """

    lengths: Sequence[int]
    chains: Sequence[tuple[int, ...]]
    past: dict[int, KeysAndValues] = field(default_factory=dict)
    made: dict[int, KeysAndValues] | None = None
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Return which keys each of the last tokens sees: those up to its own. On a GPU it is only a mark for the kernels."""
        if device.type == "cuda":
            return causal_lower_right(queries, keys)
        if (queries, keys) not in self._masks:
            everything = torch.ones(queries, keys, dtype=torch.bool, device=device)
            self._masks[queries, keys] = everything.tril(keys - queries)
        return self._masks[queries, keys]


_CURRENT: ContextVar[Branches] = ContextVar("branches")


@contextmanager
def branching(config: Any, branches: Branches) -> Iterator[None]:
    """Let the models of this configuration attend along branches in here, in this thread."""
    _register()
    usual = config._attn_implementation
    token = _CURRENT.set(branches)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
        _CURRENT.reset(token)


def _attend(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 groups tokens size"],
    value: Float[Tensor, "1 groups tokens size"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Float[Tensor, "1 tokens heads size"], None]:
    """Attend segment by segment; `attention_mask` is None, for transformers makes none for an attention it does not know."""
    branches = _CURRENT.get()
    layer: Any = module.layer_idx
    if branches.made is not None:
        branches.made[layer] = key, value
    lengths, first = list(branches.lengths), 0
    if branches.past:
        past = branches.past[layer]
        key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))
        lengths, first = [past[0].shape[2], *lengths], 1
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
    keys, values = key.split(lengths, dim=2), value.split(lengths, dim=2)
    found = []
    for place, (own, chain) in enumerate(zip(query.split(list(branches.lengths), dim=2), branches.chains, strict=True)):
        before = [*range(first), *(first + one for one in chain), first + place]
        k, v = (pieces[before[0]] if len(before) == 1 else torch.cat([pieces[i] for i in before], dim=2) for pieces in (keys, values))
        options: dict[str, Any] = {"scale": scaling, "dropout_p": dropout}
        if len(before) == 1:
            options["is_causal"] = own.shape[2] > 1
        elif own.shape[2] > 1:
            options["attn_mask"] = branches.mask(own.shape[2], k.shape[2], own.device)
        found.append(scaled_dot_product_attention(own, k, v, **options))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


@cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
