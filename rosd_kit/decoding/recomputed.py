"""Rows without a cache: every token runs over the whole text. Slow, and right for every model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from rosd_kit.decoding.rows import Ids

if TYPE_CHECKING:
    from torch import Tensor, nn


class RecomputedRows:
    """Rows padded on the right; as in training, no token sees the padding. See `Rows`."""

    extends: ClassVar[bool] = False

    def __init__(self, model: nn.Module, pad_id: int, device: torch.device) -> None:
        self.model, self.pad_id, self.device = model, pad_id, device
        self._ids = torch.empty(0, 0, dtype=torch.long, device=device)  # [rows, length]
        self._lengths = torch.empty(0, dtype=torch.long, device=device)

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        texts = [torch.tensor(prompt) for prompt in prompts]
        self._ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.pad_id).to(self.device)
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        return self._logits()

    def keep(self, order: Sequence[int]) -> None:
        index = torch.tensor(order, dtype=torch.long, device=self.device)
        self._ids, self._lengths = self._ids[index], self._lengths[index]

    def forward(self, tokens: Tensor) -> Tensor:
        if int(self._lengths.max()) == self._ids.shape[1]:
            self._ids = torch.nn.functional.pad(self._ids, (0, 1), value=self.pad_id)
        self._ids[torch.arange(len(tokens)), self._lengths] = tokens
        self._lengths = self._lengths + 1
        return self._logits()

    def _logits(self) -> Tensor:
        from rosd_kit.model.split import split_model

        parts = split_model(self.model)
        hidden: Tensor = parts.backbone(input_ids=self._ids, use_cache=False).last_hidden_state
        return parts.logits(hidden[torch.arange(len(self._ids)), self._lengths - 1])
