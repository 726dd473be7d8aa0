"""What the loop over tokens needs from a batch of texts: begin some, drop those that have ended, run one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Ids = tuple[int, ...]


class Rows(Protocol):
    """Texts that are being continued, one per row of a batch; each way to cache what has been computed is a class.

    `extends` declares that rows can be added while others are being continued.
    """

    extends: ClassVar[bool]

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        """Append one row per prompt and run the prompts; return the logits of the new rows' next tokens, `[prompts, vocab]`."""

    def keep(self, order: Sequence[int]) -> None:
        """Keep only the rows `order`: row `i` becomes what row `order[i]` was."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Append one token per row, `[rows]`; return the logits of the next tokens, `[rows, vocab]`."""


def close_gaps(kept: Sequence[bool]) -> list[int]:
    """Return an order for `Rows.keep` that moves the fewest rows: those at the end fill the gaps of those that go."""
    count = sum(kept)
    movers = iter([row for row in range(count, len(kept)) if kept[row]])
    return [row if kept[row] else next(movers) for row in range(count)]
