"""What a sweep found, from its store: means over seeds, paired differences against the recipe, and a verdict on each.

Knows plans and results as the store has them. How tables and plots look is for `formats` and `plots`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.files import read_json_lines
from rosd_kit.renames import with_current_metrics
from rosd_kit.sweep.statistics import Estimate, estimate, holm
from rosd_kit.sweep.store import Row, Store
from rosd_kit.sweep.worker import TRIALS

IN_DOMAIN, OUT_OF_DOMAIN = "in domain", "out of domain"
ALPHA = 0.05
Evaluation = Mapping[str, SuiteResult]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A cell minus the recipe on the same seeds and problems; `adjusted` is Holm's p-value over all that are shown."""

    estimate: Estimate
    adjusted: float

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.adjusted >= ALPHA:
            return "no difference shown"
        return "better" if self.estimate.mean > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One combination: its value on each axis, how its trials stand, and by measure its mean and its difference."""

    labels: tuple[str, ...]
    planned: int
    states: Mapping[str, int]
    trials: tuple[str, ...]
    means: Mapping[str, Estimate]
    differences: Mapping[str, Difference]

    @property
    def label(self) -> str:
        """The combination in one line."""
        return ", ".join(self.labels)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a sweep found; the first cell is the recipe. `measures` holds the suites of each measure, averages first."""

    folder: Path
    name: str
    axes: tuple[str, ...]
    cells: tuple[CellResult, ...]
    before: Mapping[str, Estimate]
    measures: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def shown(self, suites: bool) -> list[str]:
        """Return the measures to show: the averages, and with `suites` every suite too."""
        averages = [measure for measure in self.measures if measure in (IN_DOMAIN, OUT_OF_DOMAIN)]
        return list(self.measures) if suites else averages

    def curve(self, cell: CellResult, metric: str) -> NDArray[np.float64]:
        """Return a metric of `metrics.jsonl` as `[trials, steps]`; empty where no finished trial has it."""
        curves = []
        for trial in cell.trials:
            file = self.folder / TRIALS / trial / "metrics.jsonl"
            records = read_json_lines(file, damaged="drop_end") if file.is_file() else ()
            curves.append([with_current_metrics(record).get(metric) for record in records])
        whole = [curve for curve in curves if curve and None not in curve]
        shortest = min(map(len, whole), default=0)
        return np.array([curve[:shortest] for curve in whole], dtype=np.float64)


def read_results(folder: Path, plan: str | None = None) -> Results:
    """Return what the sweep in a folder found so far. Raises `RunError` when nothing is finished yet."""
    with Store(folder) as store:
        asked = store.plan(plan)
        rows = store.rows(trial["id"] for trial in asked["trials"])
    finals = {id: found for id, row in rows.items() if (found := _evaluation(row, -1))}
    if not finals:
        raise RunError(f"{folder}: no trial of {asked['name']} is finished yet. Go on with rosd-kit sweep")
    measures = _measures(next(iter(finals.values())))
    by_cell = [[trial for trial in asked["trials"] if trial["cell"] == place] for place in range(len(asked["cells"]))]
    scores = [{trial["seed"]: finals[trial["id"]] for trial in trials if trial["id"] in finals} for trials in by_cell]
    differences = _differences(scores, measures)
    cells = [
        CellResult(
            labels=tuple(cell["labels"]),
            planned=len(trials),
            states=_count(rows[trial["id"]].state for trial in trials),
            trials=tuple(trial["id"] for trial in trials if trial["id"] in finals),
            means={name: estimate(_tables(list(own.values()), suites)) for name, suites in measures.items()} if own else {},
            differences=found,
        )
        for cell, trials, own, found in zip(asked["cells"], by_cell, scores, differences, strict=True)
    ]
    first = next(found for row in rows.values() if (found := _evaluation(row, 0)))
    return Results(
        folder=folder,
        name=asked["name"],
        axes=tuple(asked["axes"]),
        cells=tuple(cells),
        before={name: estimate(_tables([first], suites)) for name, suites in measures.items()},
        measures=measures,
        notes=tuple(_notes(rows, cells)),
    )


def _evaluation(row: Row, place: int) -> Evaluation | None:
    """Return the first (0) or last (-1) evaluation of a finished trial, by suite."""
    if row.state != "finished" or row.result is None:
        return None
    found = [SuiteResult.from_json(value) for value in row.result["evaluations"][place]["results"]]
    return {result.suite: result for result in found}


def _measures(evaluation: Evaluation) -> dict[str, tuple[str, ...]]:
    inside = tuple(name for name, result in evaluation.items() if result.in_domain)
    outside = tuple(name for name, result in evaluation.items() if not result.in_domain)
    averages = {IN_DOMAIN: inside, OUT_OF_DOMAIN: outside}
    return {name: own for name, own in averages.items() if own} | {name: (name,) for name in (*inside, *outside)}


def _tables(evaluations: Sequence[Evaluation], suites: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return `[seeds, problems]` for each suite, of the problems that every evaluation could judge.

    Raises `RunError` where evaluations asked different problems, or judged none in common.
    """
    tables = []
    for suite in suites:
        results = [evaluation[suite] for evaluation in evaluations if suite in evaluation]
        if len(results) < len(evaluations) or any(result.asked != results[0].asked for result in results):
            raise RunError(f"sweep report: suite {suite!r} was not measured on the same problems in all trials: do not vary it")
        judged = sorted(set.intersection(*(set(result.scores) for result in results)))
        if not judged:
            raise RunError(f"sweep report: no problem of suite {suite!r} was judged in all trials; their logs say why")
        tables.append(np.array([[result.scores[id] for id in judged] for result in results]))
    return tables


def _differences(
    scores: Sequence[Mapping[int, Evaluation]], measures: Mapping[str, Sequence[str]]
) -> list[dict[str, Difference]]:
    """Return every cell's differences by measure, corrected within the averages and within the single suites."""
    found: dict[tuple[int, str], Estimate] = {}
    for place, own in enumerate(scores[1:], start=1):
        seeds = sorted(own.keys() & scores[0].keys())
        for name, suites in measures.items() if seeds else ():
            both = _tables([side[seed] for side in (own, scores[0]) for seed in seeds], suites)
            pairs = [table[: len(seeds)] - table[len(seeds) :] for table in both]
            found[place, name] = estimate(pairs, bounds=(-1.0, 1.0))
    adjusted: dict[tuple[int, str], float] = {}
    for averages in (True, False):
        family = [key for key in found if (key[1] in (IN_DOMAIN, OUT_OF_DOMAIN)) == averages]
        adjusted |= dict(zip(family, holm([found[key].p for key in family]), strict=True))
    return [
        {
            name: Difference(estimate=found[place, name], adjusted=adjusted[place, name])
            for name in measures
            if (place, name) in found
        }
        for place in range(len(scores))
    ]


def _notes(rows: Mapping[str, Row], cells: Sequence[CellResult]) -> list[str]:
    """Return what a reader of the numbers has to know."""
    notes = []
    states = _count(row.state for row in rows.values())
    if set(states) != {"finished"}:
        notes.append("not all trials are finished: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    notes += [f"trial {row.id} failed: {row.error}" for row in rows.values() if row.state == "failed"]
    if max(cell.planned for cell in cells) == 1:
        notes.append(
            "one seed: chance between runs is in no interval; more seeds are needed to say that a part makes the difference"
        )
    made = [row.result["made_with"] for row in rows.values() if row.result is not None]
    differing = [name for name in (made[0] if made else ()) if len({json.dumps(one[name], sort_keys=True) for one in made}) > 1]
    if differing:
        notes.append(f"not all trials were made with the same {', '.join(differing)}: compare with care")
    warned = sum(bool(row.result and row.result["warnings"]) for row in rows.values())
    if warned:
        notes.append(f"{warned} trials had warnings; their logs tell them")
    return notes


def _count(states: Any) -> dict[str, int]:
    counted: dict[str, int] = {}
    for state in states:
        counted[state] = counted.get(state, 0) + 1
    return counted
