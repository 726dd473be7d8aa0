"""Computes a sweep's results from its store: means over seeds, paired differences from the recipe, and verdicts.

Knows plans and results as the store has them. `formats` and `plots` decide how they look.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.run.records import METRICS, read_records
from rosd_kit.sweep.statistics import MeanWithInterval, holm, mean_with_interval
from rosd_kit.sweep.store import Row, Store
from rosd_kit.sweep.worker import TRIALS

IN_DOMAIN, OUT_OF_DOMAIN = "in domain", "out of domain"
ALPHA = 0.05
Evaluation = Mapping[str, SuiteResult]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A combination minus the recipe, on the same seeds and problems; `adjusted_p` is Holm's over all that are shown."""

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

    `planned` is the number of trials in the plan.
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

    def shown_measures(self, *, suites: bool) -> list[str]:
        """Return the measures to show: the averages, and with `suites` each suite as well."""
        averages = [measure for measure in self.measures if measure in (IN_DOMAIN, OUT_OF_DOMAIN)]
        return list(self.measures) if suites else averages

    def curve(self, combination: CombinationResult, metric: str) -> NDArray[np.float64]:
        """Return a metric of `metrics.jsonl` as `[trials, steps]`; empty when no finished trial has it."""
        curves = []
        for trial in combination.trials:
            records = read_records(self.folder / TRIALS / trial / METRICS).whole
            curves.append([record.get(metric) for record in records])
        complete = [curve for curve in curves if curve and None not in curve]
        shortest = min(map(len, complete), default=0)
        return np.array([curve[:shortest] for curve in complete], dtype=np.float64)


def _no_result(name: str, rows: Sequence[Row]) -> str:
    """Return how far a sweep without a result is, and what to do."""
    failed = [row for row in rows if row.state == "failed"]
    lost = f"; {len(failed)} failed, first: {failed[0].error}. Their logs are in logs/" if failed else ""
    return f"no trial of {name} is finished yet{lost}. Continue with rosd-kit sweep"


def read_results(folder: Path, plan: str | None = None) -> Results:
    """Return the results in a sweep's folder so far. Raises `RunError` when no trial is finished yet."""
    with Store(folder) as store:
        stored_plan = store.plan(plan)
        rows = store.rows(trial["id"] for trial in stored_plan["trials"])
    final = {id: evaluation for id, row in rows.items() if (evaluation := _evaluation(row, -1))}
    if not final:
        raise RunError(f"{folder}: {_no_result(stored_plan['name'], list(rows.values()))}")
    measures = _measures(next(iter(final.values())))
    trials = [
        [trial for trial in stored_plan["trials"] if trial["cell"] == index] for index in range(len(stored_plan["cells"]))
    ]
    by_seed = [{trial["seed"]: final[trial["id"]] for trial in group if trial["id"] in final} for group in trials]
    combinations = tuple(
        CombinationResult(
            labels=tuple(stored["labels"]),
            planned=len(group),
            trials=tuple(trial["id"] for trial in group if trial["id"] in final),
            means=_means(list(evaluations.values()), measures),
            differences=differences,
        )
        for stored, group, evaluations, differences in zip(
            stored_plan["cells"], trials, by_seed, _differences(by_seed, measures), strict=True
        )
    )
    before = next(evaluation for row in rows.values() if (evaluation := _evaluation(row, 0)))
    return Results(
        folder=folder,
        name=stored_plan["name"],
        axes=tuple(stored_plan["axes"]),
        combinations=combinations,
        before=_means([before], measures),
        measures=measures,
        notes=tuple(_notes(rows, combinations)),
    )


def _evaluation(row: Row, index: int) -> Evaluation | None:
    """Return the first (0) or last (-1) evaluation of a finished trial, by suite."""
    if row.state != "finished" or row.result is None:
        return None
    results = [SuiteResult.from_json(value) for value in row.result["evaluations"][index]["results"]]
    return {result.suite: result for result in results}


def _measures(evaluation: Evaluation) -> dict[str, tuple[str, ...]]:
    """Return the suites of each measure: the averages that have any, then each suite by itself."""
    inside = tuple(name for name, result in evaluation.items() if result.in_domain)
    outside = tuple(name for name, result in evaluation.items() if not result.in_domain)
    averages = {IN_DOMAIN: inside, OUT_OF_DOMAIN: outside}
    return {name: suites for name, suites in averages.items() if suites} | {name: (name,) for name in (*inside, *outside)}


def _means(evaluations: Sequence[Evaluation], measures: Mapping[str, Sequence[str]]) -> dict[str, MeanWithInterval]:
    if not evaluations:
        return {}
    return {name: mean_with_interval(_score_tables(evaluations, suites)) for name, suites in measures.items()}


def _score_tables(evaluations: Sequence[Evaluation], suites: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return `[seeds, problems]` for each suite, with the problems that were judged in every evaluation.

    Raises `RunError` when the evaluations used different problems, or no problem was judged in all of them.
    """
    tables = []
    for suite in suites:
        results = [evaluation[suite] for evaluation in evaluations if suite in evaluation]
        if len(results) < len(evaluations) or any(result.asked != results[0].asked for result in results):
            raise RunError(
                f"sweep report: suite {suite!r} was not evaluated on the same problems in all trials. "
                "Do not vary the task's problems or the evaluation settings within a sweep"
            )
        judged = sorted(set.intersection(*(set(result.scores) for result in results)))
        if not judged:
            raise RunError(f"sweep report: no problem of suite {suite!r} was judged in all trials. Look at the trials' logs")
        tables.append(np.array([[result.scores[id] for id in judged] for result in results]))
    return tables


def _differences(
    by_seed: Sequence[Mapping[int, Evaluation]], measures: Mapping[str, Sequence[str]]
) -> list[dict[str, Difference]]:
    """Return each combination's differences from the recipe, by measure.

    p-values are corrected over all averages together, and separately over all single suites.
    """
    recipe = by_seed[0]
    values: dict[tuple[int, str], MeanWithInterval] = {}
    for index, variant in enumerate(by_seed[1:], start=1):
        seeds = sorted(variant.keys() & recipe.keys())
        for name, suites in measures.items() if seeds else ():
            tables = _score_tables([side[seed] for side in (variant, recipe) for seed in seeds], suites)
            paired = [table[: len(seeds)] - table[len(seeds) :] for table in tables]
            values[index, name] = mean_with_interval(paired, bounds=(-1.0, 1.0))
    adjusted: dict[tuple[int, str], float] = {}
    for averages in (True, False):
        keys = [key for key in values if (key[1] in (IN_DOMAIN, OUT_OF_DOMAIN)) == averages]
        adjusted |= dict(zip(keys, holm([values[key].p_value for key in keys]), strict=True))
    return [
        {
            name: Difference(value=values[index, name], adjusted_p=adjusted[index, name])
            for name in measures
            if (index, name) in values
        }
        for index in range(len(by_seed))
    ]


def _notes(rows: Mapping[str, Row], combinations: Sequence[CombinationResult]) -> list[str]:
    """Return the caveats that a reader of the numbers needs."""
    notes = []
    states = Counter(row.state for row in rows.values())
    if set(states) != {"finished"}:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        notes.append(f"not all trials are finished: {counts}")
    notes += [f"trial {row.id} failed: {row.error}" for row in rows.values() if row.state == "failed"]
    if max(combination.planned for combination in combinations) == 1:
        notes.append(
            "one seed: the intervals do not include the variation between runs; attributing a difference to a component needs "
            "more seeds"
        )
    environments = [row.result["made_with"] for row in rows.values() if row.result is not None]
    differing = [
        name
        for name in (environments[0] if environments else ())
        if len({json.dumps(environment[name], sort_keys=True) for environment in environments}) > 1
    ]
    if differing:
        notes.append(f"trials differ in {', '.join(differing)}: compare with care")
    warned = sum(bool(row.result and row.result["warnings"]) for row in rows.values())
    if warned:
        notes.append(f"{warned} trials had warnings; see their logs")
    return notes
