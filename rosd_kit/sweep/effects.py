"""Computes what each axis of a sweep changes, in the mean over the pairs of combinations that differ in this axis alone.

A table of sixteen combinations against one recipe hides what its parts do; a pair of values tells it, with all its combinations
and seeds at once. Knows the scores of finished trials. `tables` decides how effects look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.sweep.report import Difference, corrected, notes
from rosd_kit.sweep.scores import CombinationScores, SweepScores, paired_difference, read_scores
from rosd_kit.sweep.statistics import MeanWithInterval


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What changes when an axis has `value` instead of `reference`, all other axes being equal.

    The mean is over `pairs` pairs of combinations, of `planned` in the plan: those where both have finished a common seed.
    `within` are the values that all of them share on the axes that the effects were split by.
    """

    axis: str
    value: str
    reference: str
    within: tuple[str, ...]
    pairs: int
    planned: int
    differences: Mapping[str, Difference]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a sweep's axes so far; `within` are the axes that they are split by."""

    name: str
    within: tuple[str, ...]
    effects: tuple[Effect, ...]
    measures: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """The pairs of combinations that differ in one axis alone: (with the value, with the reference)."""

    axis: str
    value: str
    reference: str
    within: tuple[str, ...]
    planned: int
    finished: Sequence[tuple[CombinationScores, CombinationScores]]


def read_effects(folder: Path, plan: str | None = None, within: Sequence[str] = ()) -> Effects:
    """Return the effects of a sweep's axes so far, for each combination of values of the axes `within` by itself.

    The reference of an axis is its first value. Raises `RunError` when no trial is finished yet, for an axis that the sweep
    does not have, and where no two combinations differ in one axis alone.
    """
    scores = read_scores(folder, plan)
    for axis in within:
        if axis not in scores.axes:
            known = ", ".join(scores.axes) or "none"
            raise RunError(
                f"--within: {axis!r} is no axis of {scores.name}. Its axes: {known}.{did_you_mean(axis, scores.axes)}"
            )
    groups = [group for axis in scores.axes if axis not in within for group in _pairs(scores, axis, within)]
    if not groups:
        apart = f" that share {', '.join(within)}" if within else ""
        raise RunError(
            f"{folder}: no two combinations{apart} differ in one axis alone, so no axis has an effect of its own. "
            "Run the sweep without --pairwise and --random, or report it without --effects"
        )
    values: dict[tuple[int, str], MeanWithInterval] = {}
    for index, group in enumerate(groups):
        for name, suites in scores.measures.items() if group.finished else ():
            variants, references = ([pair[side].by_seed for pair in group.finished] for side in (0, 1))
            if (difference := paired_difference(variants, references, suites)) is not None:
                values[index, name] = difference
    differences = corrected(values)
    return Effects(
        name=scores.name,
        within=tuple(within),
        effects=tuple(
            Effect(
                axis=group.axis,
                value=group.value,
                reference=group.reference,
                within=group.within,
                pairs=len(group.finished),
                planned=group.planned,
                differences={name: differences[index, name] for name in scores.measures if (index, name) in differences},
            )
            for index, group in enumerate(groups)
        ),
        measures=scores.measures,
        notes=tuple(notes(scores)),
    )


def _pairs(scores: SweepScores, axis: str, within: Sequence[str]) -> Iterator[_Pairs]:
    """Yield the pairs with an axis's first value, for each other value and each combination of values `within`."""
    place = scores.axes.index(axis)
    shared = [scores.axes.index(name) for name in within]
    reference, *values = dict.fromkeys(one.labels[place] for one in scores.combinations)
    by_labels = {one.labels: one for one in scores.combinations}
    for inside in dict.fromkeys(tuple(one.labels[index] for index in shared) for one in scores.combinations):
        for value in values:
            pairs = []
            for labels, one in by_labels.items():
                other = by_labels.get((*labels[:place], reference, *labels[place + 1 :]))
                if labels[place] == value and tuple(labels[index] for index in shared) == inside and other is not None:
                    pairs.append((one, other))
            finished = [(one, other) for one, other in pairs if one.by_seed.keys() & other.by_seed.keys()]
            if pairs:
                yield _Pairs(axis=axis, value=value, reference=reference, within=inside, planned=len(pairs), finished=finished)
