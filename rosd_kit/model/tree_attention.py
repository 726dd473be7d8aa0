"""Attention along the paths of a tree of texts, in one row without padding: each token sees its own text and nothing else.

Registered with transformers as an attention of its own, it runs torch's scaled dot-product attention segment by segment,
over the keys of what leads there. Architectures need not know: all that hand attention to transformers' interface have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
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

    def mask(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Return which keys each of the last tokens sees, those up to its own; None for all.

        On a GPU it is only a mark for the kernels, which need no mask then.
        """
        if queries == 1:
            return None
        if device.type == "cuda":
            return causal_lower_right(queries, keys)
        if (queries, keys) not in self._masks:
            everything = torch.ones(queries, keys, dtype=torch.bool, device=device)
            self._masks[queries, keys] = everything.tril(keys - queries)
        return self._masks[queries, keys]


_CURRENT: ContextVar[tuple[Any, Branches]] = ContextVar("branches")
_KERNEL: ContextVar[Callable[..., Tensor]] = ContextVar("kernel", default=scaled_dot_product_attention)


@contextmanager
def branching(config: Any, branches: Branches) -> Iterator[None]:
    """Let the models of this configuration attend along branches in here, in this thread."""
    _register()
    usual = config._attn_implementation
    token = _CURRENT.set((config, branches))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
        _CURRENT.reset(token)


@contextmanager
def attending_by(kernel: Callable[..., Tensor]) -> Iterator[None]:
    """Let another function stand in for torch's scaled dot-product attention, with its arguments, in this thread."""
    token = _KERNEL.set(kernel)
    try:
        yield
    finally:
        _KERNEL.reset(token)


def as_now() -> AbstractContextManager[None]:
    """Return what lets models attend later, also in another thread, along the branches of now; nothing is collected again."""
    found = _CURRENT.get(None)
    if found is None:
        return nullcontext()
    config, branches = found
    return branching(config, replace(branches, made=None))


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
    _config, branches = _CURRENT.get()
    layer: Any = module.layer_idx
    if branches.made is not None:
        branches.made[layer] = key, value
    past = branches.past.get(layer, ())
    first = (-1,) if past else ()
    keys, values = [*_cut(key, branches.lengths), *past[:1]], [*_cut(value, branches.lengths), *past[1:]]
    found, kernel = [], _KERNEL.get()
    for place, (own, chain) in enumerate(zip(_cut(query, branches.lengths), branches.chains, strict=True)):
        path = (*first, *chain, place)
        k, v = (torch.cat([pieces[i] for i in path], dim=2) for pieces in (keys, values))
        causal = len(path) == 1 and own.shape[2] > 1
        found.append(
            kernel(
                own, k, v,
                attn_mask=None if causal else branches.mask(own.shape[2], k.shape[2], own.device),
                is_causal=causal,
                scale=scaling,
                dropout_p=dropout,
                enable_gqa=own.shape[1] != k.shape[1],
            )
        )  # fmt: skip
    return torch.cat([one.transpose(1, 2) for one in found], dim=1), None


def _cut(row: Float[Tensor, "1 heads tokens size"], lengths: Sequence[int]) -> tuple[Tensor, ...]:
    """Cut a row into its segments; their gradients are put together again in one go."""
    return torch.split_with_sizes(row, list(lengths), dim=2)


@cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
