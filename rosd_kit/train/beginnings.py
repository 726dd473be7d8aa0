"""Common beginnings of texts: run once, handed to every micro-batch that goes on from them, differentiated once.

Keys and values of the beginnings are cut off from their graph, so that the micro-batches of a large family need not be in
memory together: each leaves its gradient at the keys and values, and one backward pass at the end takes the sum through
the beginnings. Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from rosd_kit.train.batch import sent
from rosd_kit.train.caching import cache_word
from rosd_kit.train.layout import Prefix


@dataclass
class _Open:
    """Beginnings that have been run: what the layers made of them, and the same cut off, to collect gradients."""

    prefix: Prefix
    differentiable: bool
    made: list[Tensor]
    cut: list[Tensor]


@dataclass
class Beginnings:
    """The beginnings that a backbone ran last; asked for the same ones again, it need not run."""

    backbone: nn.Module
    _open: _Open | None = field(default=None, repr=False)

    def cache(self, prefix: Prefix, device: torch.device) -> Any:
        """Return a cache with the keys and values that each row goes on from."""
        from transformers import DynamicCache

        opened = self._open
        if opened is None or opened.differentiable != torch.is_grad_enabled() or not opened.prefix.begins_like(prefix):
            self.close()
            opened = self._open = self._run(prefix, device)
        owner = sent(prefix.owner, device)
        rows = [tensor.index_select(0, owner) for tensor in opened.cut]
        return DynamicCache(list(zip(rows[::2], rows[1::2], strict=True)))

    def _run(self, prefix: Prefix, device: torch.device) -> _Open:
        from transformers import DynamicCache

        found: Any = DynamicCache(config=cast(Any, self.backbone.config))
        self.backbone(input_ids=sent(prefix.ids, device), use_cache=True, **{cache_word(self.backbone): found})
        made = [tensor for layer in found.layers for tensor in (layer.keys, layer.values)]
        cut = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in made]
        return _Open(prefix, torch.is_grad_enabled(), made, cut)

    def close(self) -> None:
        """Take the gradients that micro-batches have left through the beginnings, and forget them.

        To be called when no micro-batch goes on from them any more, or the gradient lacks their part.
        """
        opened, self._open = self._open, None
        if opened is None:
            return
        pairs = [(made, cut.grad) for made, cut in zip(opened.made, opened.cut, strict=True) if cut.grad is not None]
        if pairs:
            torch.autograd.backward([made for made, _ in pairs], [gradient for _, gradient in pairs])
