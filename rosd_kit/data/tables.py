"""Rows in memory: splits off the held-out ones and draws the others in a seeded order. Knows no templates."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from rosd_kit.data.rows import Row
from rosd_kit.errors import RunError

NumberedRow = tuple[str, Row]


class Table:
    """A list of rows of which a share is held out, or all with share 1.

    The held-out rows are those that `datasets.Dataset.train_test_split(test_size=share, seed=split_seed)` would choose.
    """

    def __init__(self, rows: Sequence[Row], *, held_out: float, split_seed: int, shuffle: bool = True) -> None:
        self._rows, self._shuffle = rows, shuffle
        count = math.ceil(held_out * len(rows))
        if 0 < held_out < 1 and not 0 < count < len(rows):
            raise RunError(
                f"task.held_out: {held_out:g} of {len(rows)} rows leaves {count} to evaluate on and {len(rows) - count} to "
                "train on. Choose another share, read more rows (task.limit), or choose 0 and name sets under task.suites."
            )
        order = np.random.default_rng(split_seed).permutation(len(rows)).tolist() if count else list(range(len(rows)))
        self._held_out, self._trained = sorted(order[:count]), sorted(order[count:])

    def draw(self, start: int, count: int, seed: int) -> list[NumberedRow]:
        """Return the rows at indices `start` to `start + count` of an endless sequence of epochs, each shuffled anew."""
        indices = [divmod(index, len(self._trained)) for index in range(start, start + count)]
        orders = {epoch: self._order(seed, epoch) for epoch in {epoch for epoch, _ in indices}}
        chosen = [(epoch, self._trained[orders[epoch][index]]) for epoch, index in indices]
        return [(f"{epoch}-{row}", self._rows[row]) for epoch, row in chosen]

    def held_out(self, count: int, seed: object) -> list[NumberedRow]:
        """Return `count` held-out rows, the same for the same seed, or all if there are fewer."""
        chosen = sorted(random.Random(f"suite {seed}").sample(self._held_out, min(count, len(self._held_out))))
        return [(str(row), self._rows[row]) for row in chosen]

    def _order(self, seed: int, epoch: int) -> Sequence[int]:
        length = len(self._trained)
        return random.Random(f"epoch {seed} {epoch}").sample(range(length), length) if self._shuffle else range(length)
