"""Reads the scores of a sweep's finished trials from its store, by combination and seed, as tables that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.sweep.statistics import MeanWithInterval, mean_with_interval
from rosd_kit.sweep.store import Row, Store

IN_DOMAIN, OUT_OF_DOMAIN = "in domain", "out of domain"
AVERAGES = (IN_DOMAIN, OUT_OF_DOMAIN)
Evaluation = Mapping[str, SuiteResult]


@dataclass(frozen=True, kw_only=True)
class CombinationScores:
    """One combination: its axis values, the ids of its finished trials, and their last evaluations by seed.

    `planned` is the number of trials in the plan.
    """

    labels: tuple[str, ...]
    planned: int
    trials: tuple[str, ...]
    by_seed: Mapping[int, Evaluation]


@dataclass(frozen=True, kw_only=True)
class SweepScores:
    """The scores of a sweep so far. The first combination is the recipe; `measures` maps each measure to its suites.

    `before` is an evaluation before training, which all trials share.
    """

    name: str
    axes: tuple[str, ...]
    combinations: tuple[CombinationScores, ...]
    before: Evaluation
    measures: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, Row]


def read_scores(folder: Path, plan: str | None = None) -> SweepScores:
    """Return the scores in a sweep's folder so far. Raises `RunError` when no trial is finished yet."""
    with Store(folder) as store:
        stored = store.plan(plan)
        rows = store.rows(trial["id"] for trial in stored["trials"])
    final = {id: evaluation for id, row in rows.items() if (evaluation := _evaluation(row, -1))}
    if not final:
        raise RunError(f"{folder}: {_no_result(stored['name'], list(rows.values()))}")
    combinations = []
    for index, cell in enumerate(stored["cells"]):
        planned = [trial for trial in stored["trials"] if trial["cell"] == index]
        finished = [trial for trial in planned if trial["id"] in final]
        combinations.append(
            CombinationScores(
                labels=tuple(cell["labels"]),
                planned=len(planned),
                trials=tuple(trial["id"] for trial in finished),
                by_seed={trial["seed"]: final[trial["id"]] for trial in finished},
            )
        )
    return SweepScores(
        name=stored["name"],
        axes=tuple(stored["axes"]),
        combinations=tuple(combinations),
        before=next(evaluation for row in rows.values() if (evaluation := _evaluation(row, 0))),
        measures=_measures(next(iter(final.values()))),
        rows=rows,
    )


def shown_measures(measures: Mapping[str, tuple[str, ...]], *, suites: bool) -> list[str]:
    """Return the measures to show: the averages, and with `suites` each suite as well."""
    return list(measures) if suites else [measure for measure in measures if measure in AVERAGES]


def score_tables(evaluations: Sequence[Evaluation], suites: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return `[evaluations, problems]` for each suite, with the problems that were judged in every evaluation.

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


def paired_difference(
    variants: Sequence[Mapping[int, Evaluation]], references: Sequence[Mapping[int, Evaluation]], suites: Sequence[str]
) -> MeanWithInterval | None:
    """Return the variants minus their references on the suites, in the mean over the pairs; None without a common seed.

    Differences are of the same seed and problem; only seeds that all combinations have count. The pairs are fixed, seeds and
    problems are random samples.
    """
    sides = [*variants, *references]
    seeds = sorted(set.intersection(*(set(side) for side in sides)))
    if not seeds:
        return None
    evaluations = [side[seed] for side in sides for seed in seeds]
    tables = [table.reshape(2, len(variants), len(seeds), -1) for table in score_tables(evaluations, suites)]
    return mean_with_interval([(table[0] - table[1]).mean(axis=0) for table in tables], bounds=(-1.0, 1.0))


def _no_result(name: str, rows: Sequence[Row]) -> str:
    """Return how far a sweep without a result is, and what to do."""
    failed = [row for row in rows if row.state == "failed"]
    lost = f"; {len(failed)} failed, first: {failed[0].error}. Their logs are in logs/" if failed else ""
    return f"no trial of {name} is finished yet{lost}. Continue with rosd-kit sweep"


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
