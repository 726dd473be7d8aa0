"""Computes a sweep's results: means over seeds, paired differences from the recipe, and verdicts.

Knows the scores of finished trials. `tables` and `plots` decide how results look.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rosd_kit.run.records import METRICS, read_records
from rosd_kit.sweep.scores import (
    AVERAGES,
    Evaluation,
    SweepScores,
    paired_difference,
    read_scores,
    score_tables,
)
from rosd_kit.sweep.statistics import MeanWithInterval, holm, mean_with_interval
from rosd_kit.sweep.store import Row
from rosd_kit.sweep.worker import TRIALS

ALPHA = 0.05
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference on the same seeds and problems; `adjusted_p` is Holm's over all that are shown."""

    value: MeanWithInterval
    adjusted_p: float

    @property
    def verdict(self) -> str:
        """The verdict at `ALPHA`."""
        if self.adjusted_p >= ALPHA:
            return "no difference shown"
        return "better" if self.value.mean > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class CombinationResult:
    """The results of one combination: its axis values, its finished trials, and a mean and a difference for each measure.

    `planned` is the number of trials in the plan; differences are from the recipe.
    """

    labels: tuple[str, ...]
    planned: int
    trials: tuple[str, ...]
    means: Mapping[str, MeanWithInterval]
    differences: Mapping[str, Difference]

    @property
    def label(self) -> str:
        """The combination in one line."""
        return ", ".join(self.labels)


@dataclass(frozen=True, kw_only=True)
class Results:
    """A sweep's results so far. The first combination is the recipe; `measures` maps each measure to its suites."""

    folder: Path
    name: str
    axes: tuple[str, ...]
    combinations: tuple[CombinationResult, ...]
    before: Mapping[str, MeanWithInterval]
    measures: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def curve(self, combination: CombinationResult, metric: str) -> NDArray[np.float64]:
        """Return a metric of `metrics.jsonl` as `[trials, steps]`; empty when no finished trial has it."""
        curves = []
        for trial in combination.trials:
            records = read_records(self.folder / TRIALS / trial / METRICS).whole
            curves.append([record.get(metric) for record in records])
        complete = [curve for curve in curves if curve and None not in curve]
        shortest = min(map(len, complete), default=0)
        return np.array([curve[:shortest] for curve in complete], dtype=np.float64)


def read_results(folder: Path, plan: str | None = None) -> Results:
    """Return the results in a sweep's folder so far. Raises `RunError` when no trial is finished yet."""
    scores = read_scores(folder, plan)
    combinations = tuple(
        CombinationResult(
            labels=one.labels,
            planned=one.planned,
            trials=one.trials,
            means=_means(list(one.by_seed.values()), scores.measures),
            differences=differences,
        )
        for one, differences in zip(scores.combinations, _differences(scores), strict=True)
    )
    return Results(
        folder=folder,
        name=scores.name,
        axes=scores.axes,
        combinations=combinations,
        before=_means([scores.before], scores.measures),
        measures=scores.measures,
        notes=tuple(notes(scores)),
    )


def corrected(values: Mapping[tuple[Key, str], MeanWithInterval]) -> dict[tuple[Key, str], Difference]:
    """Return differences with Holm's p-values, given by anything and a measure.

    p-values are corrected over all averages together, and separately over all single suites.
    """
    adjusted: dict[tuple[Key, str], float] = {}
    for averages in (True, False):
        keys = [key for key in values if (key[1] in AVERAGES) == averages]
        adjusted |= dict(zip(keys, holm([values[key].p_value for key in keys]), strict=True))
    return {key: Difference(value=value, adjusted_p=adjusted[key]) for key, value in values.items()}


def notes(scores: SweepScores) -> list[str]:
    """Return the caveats that a reader of the numbers needs."""
    rows = scores.rows
    found = []
    states = Counter(row.state for row in rows.values())
    if set(states) != {"finished"}:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        found.append(f"not all trials are finished: {counts}")
    found += [f"trial {row.id} failed: {row.error}" for row in rows.values() if row.state == "failed"]
    if max(combination.planned for combination in scores.combinations) == 1:
        found.append(
            "one seed: the intervals do not include the variation between runs; attributing a difference to a component needs "
            "more seeds"
        )
    if differing := _differing_environments(list(rows.values())):
        found.append(f"trials differ in {', '.join(differing)}: compare with care")
    warned = sum(bool(row.result and row.result["warnings"]) for row in rows.values())
    if warned:
        found.append(f"{warned} trials had warnings; see their logs")
    return found


def _differing_environments(rows: Sequence[Row]) -> list[str]:
    """Return in what the trials' environments differ."""
    environments = [row.result["made_with"] for row in rows if row.result is not None]
    return [
        name
        for name in (environments[0] if environments else ())
        if len({json.dumps(environment[name], sort_keys=True) for environment in environments}) > 1
    ]


def _means(evaluations: Sequence[Evaluation], measures: Mapping[str, Sequence[str]]) -> dict[str, MeanWithInterval]:
    if not evaluations:
        return {}
    return {name: mean_with_interval(score_tables(evaluations, suites)) for name, suites in measures.items()}


def _differences(scores: SweepScores) -> list[dict[str, Difference]]:
    """Return each combination's differences from the recipe, by measure."""
    recipe, *variants = scores.combinations
    values: dict[tuple[int, str], MeanWithInterval] = {}
    for index, variant in enumerate(variants, start=1):
        for name, suites in scores.measures.items():
            if (difference := paired_difference([variant.by_seed], [recipe.by_seed], suites)) is not None:
                values[index, name] = difference
    differences = corrected(values)
    return [
        {name: differences[index, name] for name in scores.measures if (index, name) in differences}
        for index in range(len(scores.combinations))
    ]
