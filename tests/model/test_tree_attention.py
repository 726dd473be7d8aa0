"""Attention along the paths of a prefix tree, against attention over each sequence alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from rosd_kit.model.tree_attention import NAME, AttentionTree, attend_along


@pytest.mark.parametrize(("queries", "keys"), [(3, 3), (2, 5), (4, 9)])
def test_the_mask_on_a_cpu_means_the_same_as_the_marker_on_a_gpu(queries: int, keys: int) -> None:
    query, (key, value) = torch.randn(1, 2, queries, 8), torch.randn(2, 1, 2, keys, 8)
    mask = AttentionTree([], []).mask(queries, keys, torch.device("cpu"))
    masked, marked = (
        scaled_dot_product_attention(query, key, value, attn_mask=each) for each in (mask, causal_lower_right(queries, keys))
    )
    torch.testing.assert_close(masked, marked)
    assert mask.sum() == sum(keys - queries + 1 + row for row in range(queries))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_each_segment_attends_to_its_ancestors_and_itself(groups: int) -> None:
    """A past of 3 tokens, then segments of 2, 1 and 3 tokens; the last two continue from the first. Heads may share keys."""
    from transformers import AttentionInterface

    torch.manual_seed(0)
    query = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    past, row = (tuple(torch.randn(2, 1, groups, n, 8, dtype=torch.float64)) for n in (3, 6))
    config: Any = SimpleNamespace(_attn_implementation="sdpa")
    recorded: dict[int, Any] = {}
    tree = AttentionTree([2, 1, 3], [(), (0,), (0,)], past={7: past}, recorded=recorded)
    with attend_along(config, tree):
        assert config._attn_implementation == NAME
        output, _ = AttentionInterface._global_mapping[NAME](SimpleNamespace(layer_idx=7), query, *row, None, scaling=0.3)
    assert config._attn_implementation == "sdpa"
    assert [torch.equal(a, b) for a, b in zip(recorded[7], row, strict=True)] == [True, True]
    for token, visible in enumerate([[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [0, 1, 3, 4, 5]]):
        key, value = (
            torch.cat([before, own[:, :, visible]], dim=2).repeat_interleave(4 // groups, 1)
            for before, own in zip(past, row, strict=True)
        )
        alone = scaled_dot_product_attention(query[:, :, token : token + 1], key, value, scale=0.3)
        torch.testing.assert_close(output[:, token], alone[:, :, 0])
