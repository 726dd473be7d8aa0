"""Which combinations of the axes are run: all, enough for every pair, one swap at a time, or some at random.

Knows axes and whether a combination is possible; knows no recipe and no store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rosd_kit.errors import RecipeError
from rosd_kit.sweep.axes import Axis
from rosd_kit.sweep.combinations import Cell, Cells, Settings, Skipped, combination, product, size
from rosd_kit.sweep.settings import Design, Sweep

MOST = 20_000
Pair = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The combinations to run, the recipe itself first, and those that were left out."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]


def choose(sweep: Sweep, cells: Cells) -> Chosen:
    """Return what a sweep runs. Raises `RecipeError` for a value that is never possible and for too many combinations."""
    _refuse_too_many(sweep)
    baseline = cells.baseline()
    cells.check_values()
    found = [cells.at(settings) for settings in _settings(sweep.axes, sweep.design, cells)]
    possible = [cell for cell in found if isinstance(cell, Cell)]
    if sweep.design.kind == "pairwise":
        possible = cover_pairs(possible)
    return Chosen(
        cells=_distinct([baseline, *possible]),
        skipped=tuple(skipped for skipped in found if isinstance(skipped, Skipped)),
    )


def cover_pairs(cells: Sequence[Cell]) -> list[Cell]:
    """Return few cells that hold every pair of settings that any of the given ones holds.

    Greedy: always the cell with most pairs that no chosen one has, the first of several (Johnson, Approximation algorithms
    for combinatorial problems, 1974: at most ln(pairs) + 1 times as many as the least possible).
    """
    pairs = [pairs_of(cell.settings) for cell in cells]
    missing: set[Pair] = set().union(*pairs)
    chosen = []
    while missing:
        best = max(range(len(cells)), key=lambda place: len(pairs[place] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return [cells[place] for place in sorted(chosen)]


def pairs_of(settings: Settings) -> frozenset[Pair]:
    """Return every pair of settings; of a single setting, the pair with itself."""
    items = sorted(settings.items())
    return frozenset(itertools.combinations(items, 2)) or frozenset((item, item) for item in items)


def _settings(axes: Sequence[Axis], design: Design, cells: Cells) -> Iterable[Settings]:
    if design.kind == "one_at_a_time":
        return [{axis.field: value} for axis in axes for value in axis.values]
    if design.kind == "random":
        return _drawn(axes, design, cells)
    return product(axes)


def _refuse_too_many(sweep: Sweep) -> None:
    if sweep.design.kind in ("grid", "pairwise") and size(sweep.axes) > MOST:
        raise RecipeError(
            f"sweep: {size(sweep.axes)} combinations are more than {MOST}. "
            "Give fewer values, or use --random N or --one-at-a-time"
        )


def _drawn(axes: Sequence[Axis], design: Design, cells: Cells) -> Iterator[Settings]:
    """Return combinations in random order until enough of them are possible and different."""
    generator, total = random.Random(design.seed), size(axes)
    places = generator.sample(range(total), min(total, MOST))
    found: set[tuple[tuple[str, str], ...]] = set()
    for place in places:
        if len(found) == design.count:
            return
        settings = combination(axes, place)
        cell = cells.at(settings)
        if isinstance(cell, Cell):
            found.add(tuple(sorted(cell.settings.items())))
        yield settings


def _distinct(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells without those whose recipe is that of an earlier one under whatever name."""
    seen: list[Cell] = []
    known = set()
    for cell in cells:
        key = cell.recipe.model_copy(update={"name": "same"}).model_dump_json()
        if key not in known:
            known.add(key)
            seen.append(cell)
    return tuple(seen)
