"""Attention along the branches of a tree, against attention over each text alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from rosd_kit.model.tree_attention import NAME, Branches, branching


@pytest.mark.parametrize(("queries", "keys"), [(3, 3), (2, 5), (4, 9)])
def test_the_mask_is_what_the_mark_for_a_gpu_means(queries: int, keys: int) -> None:
    query, (key, value) = torch.randn(1, 2, queries, 8), torch.randn(2, 1, 2, keys, 8)
    mask = Branches([], []).mask(queries, keys, torch.device("cpu"))
    found, marked = (
        scaled_dot_product_attention(query, key, value, attn_mask=one) for one in (mask, causal_lower_right(queries, keys))
    )
    torch.testing.assert_close(found, marked)
    assert mask.sum() == sum(keys - queries + 1 + row for row in range(queries))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_each_segment_sees_what_leads_to_it_and_itself(groups: int) -> None:
    """A past of 3 tokens, then segments of 2, 1 and 3, the last two going on from the first; heads may share keys."""
    from transformers import AttentionInterface

    torch.manual_seed(0)
    query = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    past, own = (tuple(torch.randn(2, 1, groups, n, 8, dtype=torch.float64)) for n in (3, 6))
    config: Any = SimpleNamespace(_attn_implementation="sdpa")
    made: dict[int, Any] = {}
    with branching(config, Branches([2, 1, 3], [(), (0,), (0,)], past={7: past}, made=made)):
        assert config._attn_implementation == NAME
        found, _ = AttentionInterface._global_mapping[NAME](SimpleNamespace(layer_idx=7), query, *own, None, scaling=0.3)
    assert config._attn_implementation == "sdpa"
    assert [torch.equal(a, b) for a, b in zip(made[7], own, strict=True)] == [True, True]
    for row, seen in enumerate([[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [0, 1, 3, 4, 5]]):
        key, value = (
            torch.cat([before, mine[:, :, seen]], dim=2).repeat_interleave(4 // groups, 1)
            for before, mine in zip(past, own, strict=True)
        )
        alone = scaled_dot_product_attention(query[:, :, row : row + 1], key, value, scale=0.3)
        torch.testing.assert_close(found[:, row], alone[:, :, 0])
