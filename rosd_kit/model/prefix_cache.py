"""Keys and values of a prefix that several micro-batches share: computed once, reused by each, differentiated once.

    prefix  --forward-->  keys and values
                            |  detached: each micro-batch continues from them and
                            v  leaves its gradient there
                          micro-batch 1, micro-batch 2, ...
    prefix  <--backward-- sum of their gradients, at the end

The detached copies separate the graphs, so the micro-batches need not be in memory together. Does not know losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rosd_kit.model.prefix_tree import Ids
from rosd_kit.model.tensors import to_device
from rosd_kit.model.tree_attention import AttentionTree, KeysAndValues, attend_along

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class _Entry:
    """A computed prefix: keys and values by layer, and detached copies of them that collect gradients."""

    prefix: Ids
    differentiable: bool
    computed: dict[int, KeysAndValues]
    detached: dict[int, KeysAndValues]


@dataclass
class PrefixCache:
    """Holds the prefix that a backbone ran last; asking for the same prefix again runs nothing."""

    backbone: PreTrainedModel
    _entry: _Entry | None = field(default=None, repr=False)

    def keys_and_values(self, prefix: Ids, device: torch.device) -> dict[int, KeysAndValues]:
        """Return the keys and values of a prefix by layer, for sequences to continue from; nothing for an empty prefix."""
        if not prefix:
            return {}
        entry = self._entry
        if entry is None or entry.differentiable != torch.is_grad_enabled() or entry.prefix != prefix:
            self.close()
            entry = self._entry = self._run(prefix, device)
        return entry.detached

    def _run(self, prefix: Ids, device: torch.device) -> _Entry:
        computed: dict[int, KeysAndValues] = {}
        with attend_along(self.backbone.config, AttentionTree([len(prefix)], [()], recorded=computed)):
            self.backbone(
                input_ids=to_device(torch.tensor([prefix]), device),
                position_ids=to_device(torch.arange(len(prefix))[None], device),
                use_cache=False,
            )
        detached = {layer: (_leaf(keys), _leaf(values)) for layer, (keys, values) in computed.items()}
        return _Entry(prefix, torch.is_grad_enabled(), computed, detached)

    def close(self) -> None:
        """Backpropagate the gradients that micro-batches left at the prefix, then drop it.

        Call it after the last micro-batch that continues from the prefix; without it the gradient lacks the prefix's share.
        """
        entry, self._entry = self._entry, None
        if entry is None:
            return
        pairs = [
            pair for layer, computed in entry.computed.items() for pair in zip(computed, entry.detached[layer], strict=True)
        ]
        reached = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
        if reached:
            torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)
