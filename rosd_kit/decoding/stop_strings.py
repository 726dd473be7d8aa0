"""Watches a batch's tokens for stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rosd_kit.text.stops import completes_stop
from rosd_kit.types import GenerateRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class StopStrings:
    """Reads the tokens of responses as they come. `lengths` tells where a stop string ended a response, by request."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, requests: Sequence[GenerateRequest]) -> None:
        self.any = any(request.sampling.stop for request in requests)
        self.lengths: dict[int, int] = {}
        self._tokenizer = tokenizer
        self._stops = [request.sampling.stop for request in requests]
        self._ids: list[list[int]] = [[] for _ in requests]

    def add(self, requests: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """Add one token per row; return which rows have ended. `requests` are the rows' requests, by index."""
        return [self._ends(request, token) for request, token in zip(requests, tokens, strict=True)]

    def _ends(self, request: int, token: int) -> bool:
        if request not in self.lengths:
            ids = self._ids[request]
            ids.append(token)
            if completes_stop(self._tokenizer, ids, self._stops[request]):
                self.lengths[request] = len(ids)
        return request in self.lengths
