"""Rows that continue from transformers' own cache, whatever its layers keep: keys and values, windows, recurrent states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from rosd_kit.decoding.prefill import cache_argument, distinct, prefill
from rosd_kit.decoding.rows import Ids

if TYPE_CHECKING:
    from torch import Tensor, nn


class CachedRows:
    """Rows padded on the left, with a copy of their prompt's cache each. See `Rows`."""

    extends: ClassVar[bool] = False

    def __init__(self, model: nn.Module, pad_id: int, device: torch.device, limit: int) -> None:
        self.model, self.pad_id, self.device = model, pad_id, device
        self._last_position = limit - 1

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        from transformers import DynamicCache

        config: Any = self.model.config  # of a class that differs by architecture
        texts, numbers = distinct(prompts)
        self._cache, mask, logits = prefill(self.model, texts, DynamicCache(config=config), self.pad_id, self.device)
        index: Any = torch.tensor(numbers, device=self.device)  # transformers declares a LongTensor
        self._cache.reorder_cache(index)
        self._recurrent = not any(hasattr(layer, "keys") for layer in self._cache.layers)
        self._mask = mask[index]  # [rows, length]
        self._position = self._mask.sum(1)  # of the next token, [rows]
        return logits[index]

    def keep(self, order: Sequence[int]) -> None:
        index: Any = torch.tensor(order, dtype=torch.long, device=self.device)  # as in `add`
        self._cache.reorder_cache(index)  # recurrent states too
        self._mask, self._position = self._mask[index], self._position[index]

    def forward(self, tokens: Tensor) -> Tensor:
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=None if self._recurrent else self._mask,
            position_ids=self._position[:, None],
            use_cache=True,
            **{cache_argument(self.model): self._cache},
        )
        # Rows that have ended may stay in the batch for a few tokens, past the model's last position.
        self._position = (self._position + 1).clamp(max=self._last_position)
        logits: Tensor = out.logits[:, -1]
        return logits
