"""Selects which combinations of the axes to run: all, enough for every pair, one change at a time, or a random sample.

Knows axes and whether a combination is possible. Does not know trials or the store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rosd_kit.errors import RecipeError
from rosd_kit.sweep.axes import Axis
from rosd_kit.sweep.combinations import (
    Assignment,
    Combination,
    CombinationResolver,
    Skipped,
    assignment_at,
    product,
    product_size,
)
from rosd_kit.sweep.settings import Design, Sweep

MAX_COMBINATIONS = 20_000
Pair = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The combinations to run, the recipe itself first, and those that are skipped."""

    combinations: tuple[Combination, ...]
    skipped: tuple[Skipped, ...]


def select(sweep: Sweep, resolver: CombinationResolver) -> Selection:
    """Return the combinations that a sweep runs.

    Raises `RecipeError` for an axis value that works in no combination and for too many combinations.
    """
    _check_size(sweep)
    baseline = resolver.baseline()
    resolver.check_values()
    resolved = [resolver.resolve(assignment) for assignment in _assignments(sweep.axes, sweep.design, resolver)]
    possible = [combination for combination in resolved if isinstance(combination, Combination)]
    if sweep.design.kind == "pairwise":
        possible = cover_pairs(possible)
    return Selection(
        combinations=_without_duplicates([baseline, *possible]),
        skipped=tuple(skipped for skipped in resolved if isinstance(skipped, Skipped)),
    )


def cover_pairs(combinations: Sequence[Combination]) -> list[Combination]:
    """Return a small subset that contains every pair of values that any of the combinations contains.

    Greedy: always take the first combination with the most uncovered pairs (Johnson, Approximation algorithms for
    combinatorial problems, 1974: at most ln(pairs) + 1 times the minimum).
    """
    pairs = [pairs_of(combination.assignment) for combination in combinations]
    uncovered: set[Pair] = set().union(*pairs)
    chosen = []
    while uncovered:
        best = max(range(len(combinations)), key=lambda index: len(pairs[index] & uncovered))
        chosen.append(best)
        uncovered -= pairs[best]
    return [combinations[index] for index in sorted(chosen)]


def pairs_of(assignment: Assignment) -> frozenset[Pair]:
    """Return every pair of values in an assignment; a single value is paired with itself."""
    items = sorted(assignment.items())
    return frozenset(itertools.combinations(items, 2)) or frozenset((item, item) for item in items)


def _assignments(axes: Sequence[Axis], design: Design, resolver: CombinationResolver) -> Iterable[Assignment]:
    if design.kind == "one_at_a_time":
        return [{axis.field: value} for axis in axes for value in axis.values]
    if design.kind == "random":
        return _random_assignments(axes, design, resolver)
    return product(axes)


def _check_size(sweep: Sweep) -> None:
    if sweep.design.kind in ("grid", "pairwise") and product_size(sweep.axes) > MAX_COMBINATIONS:
        raise RecipeError(
            f"sweep: {product_size(sweep.axes)} combinations are more than the {MAX_COMBINATIONS} allowed. "
            "Give fewer values, or use --random N or --one-at-a-time"
        )


def _random_assignments(axes: Sequence[Axis], design: Design, resolver: CombinationResolver) -> Iterator[Assignment]:
    """Yield assignments in random order until enough of them are possible and distinct."""
    generator, total = random.Random(design.seed), product_size(axes)
    indices = generator.sample(range(total), min(total, MAX_COMBINATIONS))
    possible: set[tuple[tuple[str, str], ...]] = set()
    for index in indices:
        if len(possible) == design.count:
            return
        assignment = assignment_at(axes, index)
        combination = resolver.resolve(assignment)
        if isinstance(combination, Combination):
            possible.add(tuple(sorted(combination.assignment.items())))
        yield assignment


def _without_duplicates(combinations: Sequence[Combination]) -> tuple[Combination, ...]:
    """Drop combinations whose recipe equals an earlier one in all but its name."""
    by_recipe: dict[str, Combination] = {}
    for combination in combinations:
        by_recipe.setdefault(combination.recipe.model_copy(update={"name": "same"}).model_dump_json(), combination)
    return tuple(by_recipe.values())
