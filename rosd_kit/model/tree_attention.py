"""Attention along the paths of a prefix tree, in one row without padding: each token sees only its own sequence.

Registered with transformers as an attention implementation, it runs torch's scaled dot-product attention segment by segment,
over the keys of the segment and of its ancestors; or FlexAttention over all of them at once (`flex_tree.py`). It works for
every architecture whose attention goes through transformers' attention interface. Does not know how the tree was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from rosd_kit.model.activation_replay import replace_saved, saved_by_attention
from rosd_kit.model.attention_interface import attend_by
from rosd_kit.model.flex_tree import Engine, flex_attend, prefers_flex, tree_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask
    from transformers import PretrainedConfig


#: The name under which transformers knows this attention.
NAME = "rosd_kit_tree_attention"

KeysAndValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class AttentionTree:
    """How one row of tokens is cut into segments, and which earlier segments each of them attends to.

    `ancestors[i]` are the segments before segment `i` on its path, outermost first. `past` holds keys and values, by layer, of
    a prefix that all segments continue from. `recorded`, where given, collects the row's own keys and values by layer.
    `engine` says by what to attend.
    """

    lengths: Sequence[int]
    ancestors: Sequence[tuple[int, ...]]
    past: dict[int, KeysAndValues] = field(default_factory=dict)
    recorded: dict[int, KeysAndValues] | None = None
    engine: Engine = "segments"
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _block_masks: dict[int, BlockMask] = field(default_factory=dict)

    def mask(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Return the causal mask of the last `queries` of `keys` tokens, `[queries, keys]`; None where all are visible.

        On a GPU it is only a marker: the kernels need no mask in memory.
        """
        if queries == 1:
            return None
        if device.type == "cuda":
            return causal_lower_right(queries, keys)
        if (queries, keys) not in self._masks:
            everything = torch.ones(queries, keys, dtype=torch.bool, device=device)
            self._masks[queries, keys] = everything.tril(keys - queries)
        return self._masks[queries, keys]

    def block_mask(self, past: int, device: torch.device) -> BlockMask:
        """Return the mask of the whole row, behind `past` tokens that all see."""
        if past not in self._block_masks:
            self._block_masks[past] = tree_mask(self.lengths, self.ancestors, past, device)
        return self._block_masks[past]


_CURRENT: ContextVar[tuple[PretrainedConfig, AttentionTree]] = ContextVar("tree")
_KERNEL: ContextVar[Callable[..., Tensor]] = ContextVar("kernel", default=scaled_dot_product_attention)


def attend_along(config: PretrainedConfig, tree: AttentionTree) -> AbstractContextManager[None]:
    """Make models with this configuration attend along a tree while the context is open, in this thread."""
    return attend_by(_attend, NAME, config, _CURRENT, (config, tree))


@contextmanager
def use_kernel(kernel: Callable[..., Tensor]) -> Iterator[None]:
    """Replace torch's scaled dot-product attention with a function of the same arguments, in this thread."""
    token = _KERNEL.set(kernel)
    try:
        yield
    finally:
        _KERNEL.reset(token)


def capture_tree() -> AbstractContextManager[None]:
    """Return a context that attends along the current tree again later, in any thread, without recording anything."""
    current = _CURRENT.get(None)
    if current is None:
        return nullcontext()
    config, tree = current
    return attend_along(config, replace(tree, recorded=None))


def _attend(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 groups tokens size"],
    value: Float[Tensor, "1 groups tokens size"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Float[Tensor, "1 tokens heads size"], None]:
    """Attend segment by segment, or in one call.

    `attention_mask` is None: transformers builds none for attention it does not know.
    """
    _config, tree = _CURRENT.get()
    layer = cast(int, module.layer_idx)
    if tree.recorded is not None:
        tree.recorded[layer] = key, value
    past = tree.past.get(layer, ())
    kernel = _KERNEL.get()
    if dropout == 0.0 and kernel is scaled_dot_product_attention and prefers_flex(tree.engine, tree.lengths, query):
        if past:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))
        mask = tree.block_mask(past[0].shape[2] if past else 0, query.device)
        return flex_attend(query, key, value, mask, scaling).transpose(1, 2), None
    # The past, if any, is the last entry of the lists and the first of every path.
    root = (-1,) if past else ()
    keys, values = [*_split(key, tree.lengths), *past[:1]], [*_split(value, tree.lengths), *past[1:]]
    outputs = []
    for index, (queries, ancestors) in enumerate(zip(_split(query, tree.lengths), tree.ancestors, strict=True)):
        path = (*root, *ancestors, index)
        parts = [[segments[i] for i in path] for segments in (keys, values)]
        k, v = joined = [torch.cat(each, dim=2) for each in parts]
        causal = len(path) == 1 and queries.shape[2] > 1
        output = kernel(
            queries, k, v,
            attn_mask=None if causal else tree.mask(queries.shape[2], k.shape[2], queries.device),
            is_causal=causal,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=queries.shape[1] != k.shape[1],
        )  # fmt: skip
        _join_again(output, joined, parts)
        outputs.append(output)
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1), None


def _join_again(output: Tensor, joined: Sequence[Tensor], parts: Sequence[Sequence[Tensor]]) -> None:
    """Let an attention keep its keys and values as the parts they were joined from, which paths have in common."""
    for saved, tensor, segments in zip(saved_by_attention(output.grad_fn), joined, parts, strict=False):
        replace_saved(saved, tensor, partial(torch.cat, [segment.detach() for segment in segments], dim=2))


def _split(row: Float[Tensor, "1 heads tokens size"], lengths: Sequence[int]) -> tuple[Tensor, ...]:
    """Cut a row into its segments with one operation, so that their gradients are joined with one too."""
    return torch.split_with_sizes(row, list(lengths), dim=2)
