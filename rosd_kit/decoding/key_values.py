"""Keys and values of one layer while it decodes: of prompts, which rows share, and of each row's own tokens.

Both are allocated ahead and grow by blocks, so a token costs one write and no copy of what is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

#: By how many tokens the store of a row grows at least.
_BLOCK = 64


class Store:
    """Keys and values `[entries, groups, tokens, size]`, with room to spare.

    `groups` are the key-value heads. Keys and values may differ in size.
    """

    def __init__(self) -> None:
        self._keys = self._values = torch.empty(0)
        self.entries = 0

    def keys(self, tokens: int) -> Float[Tensor, "entries groups tokens size"]:
        """Return the keys of all entries' first tokens, without a copy."""
        return self._keys[: self.entries, :, :tokens]

    def values(self, tokens: int) -> Float[Tensor, "entries groups tokens size"]:
        """Return the values of all entries' first tokens, without a copy."""
        return self._values[: self.entries, :, :tokens]

    def append(
        self, keys: Float[Tensor, "entries groups tokens size"], values: Float[Tensor, "entries groups tokens size_v"]
    ) -> None:
        """Add entries with the keys and values of their tokens."""
        first, tokens = self.entries, keys.shape[2]
        self.reserve(first + len(keys), tokens, like=(keys, values))
        self.entries += len(keys)
        self._keys[first : self.entries, :, :tokens] = keys
        self._values[first : self.entries, :, :tokens] = values

    def reserve(self, entries: int, tokens: int, like: tuple[Tensor, Tensor] | None = None) -> None:
        """Make room for so many entries and tokens; `like` are keys and values to take the shapes from the first time."""
        if like is not None and not self._keys.numel():
            self._keys, self._values = (_room(part, entries, _blocks(tokens)) for part in like)
        have_entries, have_tokens = self._keys.shape[0], self._keys.shape[2]
        if entries > have_entries or tokens > have_tokens:
            # Growing by half keeps the cost of all copies together in proportion to the tokens.
            more = _blocks(max(tokens, have_tokens + have_tokens // 2)) if tokens > have_tokens else have_tokens
            old = self._keys, self._values
            self._keys, self._values = (_room(part, max(entries, have_entries), more) for part in old)
            for new, part in zip((self._keys, self._values), old, strict=True):
                new[:have_entries, :, :have_tokens] = part

    def move(self, sources: Tensor, targets: Tensor, entries: int) -> None:
        """Copy entries over others, then keep the first `entries`."""
        if len(sources):
            self._keys[targets] = self._keys[sources]
            self._values[targets] = self._values[sources]
        self.entries = entries

    def write(
        self,
        entries: Tensor,
        positions: Tensor,
        keys: Float[Tensor, "entries groups size"],
        values: Float[Tensor, "entries groups size_v"],
        *,
        at: int | None = None,
    ) -> None:
        """Write one token's keys and values per entry, at a position of its own, or all `at` one position, which is faster."""
        if at is not None:
            self._keys[: self.entries, :, at] = keys
            self._values[: self.entries, :, at] = values
        else:
            self._keys[entries, :, positions] = keys
            self._values[entries, :, positions] = values


def moved(order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the sources and targets of those rows that change their place; see `Rows.keep`."""
    pairs = [(old, new) for new, old in enumerate(order) if old != new]
    return [old for old, _ in pairs], [new for _, new in pairs]


def _room(like: Tensor, entries: int, tokens: int) -> Tensor:
    """Return zeros: what is not written yet must not turn masked scores into NaN."""
    return like.new_zeros(entries, like.shape[1], tokens, like.shape[3])


def _blocks(tokens: int) -> int:
    return -(-tokens // _BLOCK) * _BLOCK
