"""Runs prompts as a prefix tree: what several of them begin with runs once, and nothing is padded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from rosd_kit.decoding.rows import Ids
from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.prefix_tree import PrefixTree, tree_size
from rosd_kit.model.tensors import to_device

if TYPE_CHECKING:
    from torch import Tensor

    from rosd_kit.model.split import SplitModel
    from rosd_kit.model.tree_attention import KeysAndValues

#: What attention over one more segment costs a layer on a CPU, some 50 microseconds: so many tokens times parameters.
_SEGMENT_COST = 3_000_000


def tree_pays(parts: SplitModel, prompts: Sequence[Ids], device: torch.device) -> bool:
    """Return whether a tree of distinct prompts costs less than prompts padded to one length.

    On a GPU it does not: its time goes to starting kernels, and each segment starts some in every layer.
    """
    if device.type != "cpu" or len(prompts) < 2:
        return False
    saved = len(prompts) * max(map(len, prompts)) - tree_size(prompts)
    layers: int = parts.backbone.config.num_hidden_layers
    parameters = sum(parameter.numel() for parameter in parts.backbone.parameters())
    segments = 2 * len(prompts)  # at most
    return saved * parameters > segments * layers * _SEGMENT_COST


def prefill_tree(parts: SplitModel, prompts: Sequence[Ids], device: torch.device) -> tuple[list[KeysAndValues], Tensor]:
    """Return keys and values by layer, `[prompts, groups, longest, size]`, and the next tokens' logits, `[prompts, vocab]`.

    Behind a prompt's last token stand the keys of some other token. The model must take the layout `shared`.
    """
    layout = build_layout([TokenSequence(prompt, (0,)) for prompt in prompts], pad_id=0, mode="shared")
    assert layout.tree is not None
    recorded: dict[int, KeysAndValues] = {}
    hidden = parts.hidden(layout, recorded=recorded)
    logits = parts.logits(hidden[0].index_select(0, to_device(layout.state_indices, device)))
    places = to_device(_places(layout.tree, max(map(len, prompts))), device)

    def by_prompt(row: Tensor) -> Tensor:
        _, groups, _, size = row.shape
        return row[0].index_select(1, places.flatten()).view(groups, *places.shape, size).transpose(0, 1)

    return [(by_prompt(keys), by_prompt(values)) for _, (keys, values) in sorted(recorded.items())], logits


def _places(tree: PrefixTree, longest: int) -> Tensor:
    """Return where in the row of the tree's segments each prompt's tokens stand, `[prompts, longest]`; 0 behind the last."""
    ends = list(accumulate(len(segment.ids) for segment in tree.segments))
    spans = [range(end - len(segment.ids), end) for end, segment in zip(ends, tree.segments, strict=True)]
    rows = [[place for segment in path for place in spans[segment]] for path in tree.paths]
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
