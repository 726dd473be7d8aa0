"""Puts several runs side by side: curves, latest evaluations with paired differences, and what their recipes differ in.

A comparison consists of groups: a run each, or the seeds of a combination of a sweep. All are compared with the first group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from rosd_kit.errors import RunError
from rosd_kit.evaluation.intervals import Interval
from rosd_kit.evaluation.results import Comparison, ComparisonRow, SuiteResult, compare, comparison_rows
from rosd_kit.recipe.difference import leaves, paths_in_order
from rosd_kit.report.packing import rounded, without_scores
from rosd_kit.report.reading import Record, RunRecords, Warn, silent


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run of a comparison: its name in it, its group, and how far it is."""

    records: RunRecords
    name: str
    group: int
    state: str

    @property
    def last_results(self) -> list[SuiteResult]:
        """The latest evaluation; empty without any."""
        return self.records.results(-1) if self.records.evaluations else []

    @property
    def tested_after(self) -> int | None:
        """The step of the latest evaluation."""
        return self.records.evaluations[-1]["step"] if self.records.evaluations else None


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A run against the first one: the paired comparison of their latest evaluations, or why there is none."""

    run: ComparedRun
    comparisons: tuple[Comparison, ...] = ()
    why_not: str = ""


def read_runs(folders: Sequence[Path], warn: Warn = silent) -> list[ComparedRun]:
    """Read the runs that a person names, a group each. Raises `RunError` if one is no run, or is named twice."""
    resolved = [folder.resolve() for folder in folders]
    if twice := next((folder for folder in folders if resolved.count(folder.resolve()) > 1), None):
        raise RunError(f"report: {str(twice)!r} is given twice. Name each run once.")
    names = [folder.name for folder in resolved]
    found = []
    for index, (folder, name) in enumerate(zip(folders, names, strict=True)):
        records = RunRecords.read(folder, warn)
        unique = name if names.count(name) == 1 else str(folder)
        found.append(ComparedRun(records=records, name=unique, group=index, state=records.state))
    return found


def pairings(runs: Sequence[ComparedRun]) -> list[Pairing]:
    """Return each run against the first, on the same problems; the first one against itself, which gives its own intervals."""
    return [_pair(runs[0], run) for run in runs]


def _pair(first: ComparedRun, run: ComparedRun) -> Pairing:
    for each in (first, run):
        if not each.last_results:
            return Pairing(run=run, why_not=f"{each.name} has no evaluation yet")
    theirs, suites = ({result.suite: result for result in each.last_results} for each in (first, run))
    if suites.keys() != theirs.keys():
        return Pairing(
            run=run, why_not=f"its suites ({', '.join(suites)}) differ from those of {first.name} ({', '.join(theirs)})"
        )
    if other := [name for name, result in suites.items() if result.asked != theirs[name].asked]:
        return Pairing(run=run, why_not=f"suite {other[0]} was evaluated on other problems than in {first.name}")
    try:
        return Pairing(run=run, comparisons=compare(first.last_results, run.last_results))
    except RunError:
        return Pairing(run=run, why_not=f"a suite has no problem that was judged here and in {first.name}")


def recipe_differences(recipes: Sequence[Mapping[str, object]]) -> list[tuple[str, list[str | None]]]:
    """Return each option that is not the same in all recipes, with its value as JSON in each; None where it has none."""
    values = [leaves(dict(recipe)) for recipe in recipes]
    rows = [(path, [each.get(path) for each in values]) for path in paths_in_order(*values)]
    return [(path, row) for path, row in rows if len(set(row)) > 1]


def comparison(paired: Sequence[Pairing], links: Mapping[str, str]) -> Record:
    """Return the data of the page that compares runs, a group each; `links` holds addresses of their own pages by name."""
    runs = [each.run for each in paired]
    return {
        "title": " · ".join(run.name for run in runs),
        "groups": [run.name for run in runs],
        "runs": [packed_run(run, links.get(run.name)) for run in runs],
        "options": [list(row) for row in recipe_differences([run.records.recipe for run in runs])],
        "measures": _measures(paired),
        "notes": notes(paired),
    }


def packed_run(run: ComparedRun, link: str | None) -> Record:
    """Return a run as the page needs it: metrics by name as a list over steps, and evaluations without single scores."""
    metrics = run.records.metrics
    names = list(dict.fromkeys(name for record in metrics for name in record if name != "step"))
    return {
        "name": run.name,
        "group": run.group,
        "state": run.state,
        "step": run.records.last_step,
        "steps": run.records.recipe.get("steps"),
        "link": link,
        "at": [record["step"] for record in metrics],
        "metrics": {name: [_number(record.get(name)) for record in metrics] for name in names},
        "evaluations": [without_scores(record) for record in run.records.evaluations],
    }


def interval(value: Interval) -> Record:
    """Return an interval as the page needs it."""
    return asdict(value)


def notes(paired: Sequence[Pairing]) -> list[str]:
    """Return the caveats that a reader of the numbers needs."""
    found = [f"{each.run.name} is not compared: {each.why_not}" for each in paired if each.why_not]
    found += [
        f"{each.run.name} is still running: write the report again when it has finished"
        for each in paired
        if each.run.state == "running"
    ]
    steps = {each.run.name: each.run.tested_after for each in paired if each.comparisons}
    if len(set(steps.values())) > 1:
        found.append(
            "the runs were evaluated after different steps: "
            + ", ".join(f"{name} after {step}" for name, step in steps.items())
        )
    if len(steps) > 1:
        found.append(
            "one run each: the intervals are over problems and do not include the variation between runs; attributing a "
            "difference to an option needs more seeds (rosd-kit sweep)"
        )
    return found


def _measures(paired: Sequence[Pairing]) -> list[Record]:
    """Return a table per suite and per average of suites, with a row for each run that could be compared."""
    rows: dict[str, list[Record]] = {}
    titles: dict[str, Record] = {}
    for each in paired:
        for row in comparison_rows(each.comparisons):
            titles.setdefault(row.name, {"name": row.name, "in_domain": row.in_domain, "average": row.average})
            rows.setdefault(row.name, []).append(_row(each.run, row, is_first=each is paired[0]))
    return [{**titles[name], "rows": found} for name, found in rows.items()]


def _row(run: ComparedRun, row: ComparisonRow, *, is_first: bool) -> Record:
    verdict = "baseline" if is_first else "no difference shown"
    if not is_first and row.change.excludes(0.0):
        verdict = "better" if row.change.mean > 0 else "worse"
    change = None if is_first else interval(row.change)
    return {"group": run.group, "seeds": "1", "value": interval(row.after), "difference": change, "p": None, "verdict": verdict}


def _number(value: object) -> object:
    return rounded(value) if isinstance(value, int | float) and isfinite(value) else None
