"""FlexAttention along a prefix tree: one call for the whole row, with the tree as a block mask.

Torch's attention segment by segment (`tree_attention.py`) starts some fifteen kernels per segment and layer. On a GPU one
compiled call takes their place where segments are many and short. Compiled FlexAttention has no backward pass on a CPU, and
without compilation it holds all scores, so there it is only for comparison.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Engine = Literal["auto", "segments", "flex"]
#: `auto` takes one call where a row has at least so many segments of at most so many tokens on average. By counting launches,
#: not measured: a segment's launches take longer than its arithmetic there.
MANY, SHORT = 8, 256


def prefers_flex(engine: Engine, lengths: Sequence[int], query: Tensor) -> bool:
    """Return whether a row of these segments is attended to in one call."""
    if engine != "auto":
        return engine == "flex"
    many_and_short = len(lengths) >= MANY and sum(lengths) <= SHORT * len(lengths)
    return many_and_short and query.device.type == "cuda" and _works(query.device, query.dtype, query.shape[-1])


def tree_mask(lengths: Sequence[int], ancestors: Sequence[Sequence[int]], past: int, device: torch.device) -> BlockMask:
    """Return which keys each query sees: the `past` ones before the row, its ancestors, and its own segment up to itself."""
    from torch.nn.attention.flex_attention import create_block_mask

    count = len(lengths)
    seen = torch.eye(count, dtype=torch.bool)
    for index, path in enumerate(ancestors):
        seen[index, list(path)] = True
    segment = torch.repeat_interleave(torch.arange(count), torch.tensor(list(lengths))).to(device)
    seen = seen.to(device)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = key - past
        return (own < 0) | ((own <= query) & seen[segment[query], segment[own.clamp(min=0)]])

    tokens = sum(lengths)
    return create_block_mask(visible, None, None, tokens, past + tokens, device=str(device))


def flex_attend(
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 groups keys size"],
    value: Float[Tensor, "1 groups keys size"],
    mask: BlockMask,
    scaling: float | None,
) -> Float[Tensor, "1 heads tokens size"]:
    """Attend with one call."""
    output: Tensor = _call(query.device.type)(
        query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output


@cache
def _call(device: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    call: Callable[..., Any] = flex_attention
    return torch.compile(call, dynamic=True) if device == "cuda" else call


@cache
def _works(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Try one small tree, forward and backward, against masked attention; warn if this machine cannot."""
    generator = torch.Generator(device).manual_seed(0)  # leaves the run's own random numbers alone
    lengths, ancestors, past = [130, 7, 9], [(), (0,), (0,)], 5
    tokens = sum(lengths)
    query, key, value = (
        torch.randn(1, heads, length, size, device=device, dtype=dtype, generator=generator).requires_grad_()
        for heads, length in ((2, tokens), (1, past + tokens), (1, past + tokens))
    )
    try:
        mask = tree_mask(lengths, ancestors, past, device)
        rows, columns = torch.arange(tokens, device=device)[:, None], torch.arange(past + tokens, device=device)[None]
        visible = mask.mask_mod(rows, rows, rows, columns)  # batch and head make no difference
        outputs = (
            flex_attend(query, key, value, mask, None),
            scaled_dot_product_attention(query, key, value, attn_mask=visible, enable_gqa=True),
        )
        results = [[output, *torch.autograd.grad(output.float().square().sum(), (query, key, value))] for output in outputs]
        for found, expected in zip(*results, strict=True):
            gap = float((found - expected).abs().max() / expected.abs().max())
            if not gap <= (1e-3 if dtype == torch.float32 else 2e-2):
                raise ValueError(f"its results differ by {gap:.2g} of the largest")
    except Exception as error:
        warnings.warn(
            f"FlexAttention does not work here, so rows attend segment by segment: {type(error).__name__}: {error}",
            stacklevel=2,
        )
        return False
    return True
