"""Rows that are all at hand: which are held back, and which are drawn at a place of the run. Knows no templates."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from rosd_kit.data.source import Row
from rosd_kit.errors import RunError

Numbered = tuple[str, Row]


class Table:
    """A list of rows, of which a share is held back; 1 holds back all of them.

    The rows held back are those that `datasets.Dataset.train_test_split(test_size=share, seed=split_seed)` would take.
    """

    def __init__(self, rows: Sequence[Row], *, held_out: float, split_seed: int, shuffle: bool = True) -> None:
        self._rows, self._shuffle = rows, shuffle
        kept = math.ceil(held_out * len(rows))
        if 0 < held_out < 1 and not 0 < kept < len(rows):
            raise RunError(
                f"task.held_out: {held_out:g} of {len(rows)} rows leaves {kept} to measure on and {len(rows) - kept} to train "
                "on. Choose another share, or 0 and name sets under task.suites."
            )
        order = np.random.default_rng(split_seed).permutation(len(rows)).tolist() if kept else list(range(len(rows)))
        self._held, self._trained = sorted(order[:kept]), sorted(order[kept:])

    def draw(self, start: int, count: int, seed: int) -> list[Numbered]:
        """Return the rows at places `start` to `start + count` of an endless row of epochs, each in an order of its own."""
        places = [divmod(place, len(self._trained)) for place in range(start, start + count)]
        orders = {epoch: self._order(seed, epoch) for epoch in {epoch for epoch, _ in places}}
        chosen = [(epoch, self._trained[orders[epoch][place]]) for epoch, place in places]
        return [(f"{epoch}-{row}", self._rows[row]) for epoch, row in chosen]

    def held_out(self, count: int, seed: object) -> list[Numbered]:
        """Return `count` rows of those held back, always the same for a seed, or all where there are fewer."""
        chosen = sorted(random.Random(f"suite {seed}").sample(self._held, min(count, len(self._held))))
        return [(str(row), self._rows[row]) for row in chosen]

    def _order(self, seed: int, epoch: int) -> Sequence[int]:
        length = len(self._trained)
        return random.Random(f"epoch {seed} {epoch}").sample(range(length), length) if self._shuffle else range(length)
