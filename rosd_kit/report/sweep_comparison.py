"""Puts the trials of a sweep side by side: the same page as for runs, with the sweep's own statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rosd_kit.report.comparison import ComparedRun, interval, packed_run, recipe_differences
from rosd_kit.report.reading import Record, RunRecords, Warn, silent
from rosd_kit.sweep.report import CombinationResult, Results, read_results
from rosd_kit.sweep.store import Store
from rosd_kit.sweep.worker import TRIALS


def read_trials(folder: Path, plan: str | None = None, warn: Warn = silent) -> list[ComparedRun]:
    """Return the trials of a sweep's plan that have begun, each in the group of its combination."""
    with Store(folder) as store:
        stored = store.plan(plan)
        rows = store.rows(trial["id"] for trial in stored["trials"])
    trials = []
    for trial in {trial["id"]: trial for trial in stored["trials"]}.values():
        path = folder / TRIALS / trial["id"]
        if (path / "recipe.yaml").is_file():
            label = ", ".join([*stored["cells"][trial["cell"]]["labels"], f"seed {trial['seed']}"])
            records = RunRecords.read(path, warn)
            state = rows[trial["id"]].state if trial["id"] in rows else records.state
            trials.append(ComparedRun(records=records, name=label, group=trial["cell"], state=state))
    return trials


def sweep_comparison(folder: Path, trials: list[ComparedRun], links: Mapping[str, str], plan: str | None = None) -> Record:
    """Return the data of the page of a sweep. Raises `RunError` when no trial is finished yet."""
    results = read_results(folder, plan)
    firsts = {trial.group: trial for trial in reversed(trials)}
    options = recipe_differences([firsts[group].records.recipe for group in sorted(firsts)])
    return {
        "title": results.name,
        "axes": list(results.axes),
        "groups": [one.label for one in results.combinations],
        "runs": [packed_run(trial, links.get(trial.name)) for trial in trials],
        "options": [[path, _spread(values, sorted(firsts), len(results.combinations))] for path, values in options],
        "measures": [_measure(results, name) for name in results.measures],
        "notes": [
            f"differences are from the recipe ({results.combinations[0].label}), on the same problems and seeds; intervals "
            "treat seeds and problems as random samples; p is Holm-corrected",
            *results.notes,
        ],
    }


def _spread(values: list[str | None], groups: list[int], count: int) -> list[str | None]:
    """Return values of the groups that have begun in the order of all groups."""
    known = dict(zip(groups, values, strict=True))
    return [known.get(group) for group in range(count)]


def _measure(results: Results, name: str) -> Record:
    suites = results.measures[name]
    return {
        "name": name,
        "average": suites != (name,),
        "in_domain": False,
        "before": interval(results.before[name].interval),
        "rows": [_row(index, one, name) for index, one in enumerate(results.combinations)],
    }


def _row(index: int, combination: CombinationResult, measure: str) -> Record:
    difference, mean = combination.differences.get(measure), combination.means.get(measure)
    verdict = "the recipe" if index == 0 else "nothing finished" if mean is None else "no seed in common with the recipe"
    finished = len(combination.trials)
    return {
        "group": index,
        "seeds": str(finished) if finished == combination.planned else f"{finished}/{combination.planned}",
        "value": None if mean is None else interval(mean.interval),
        "difference": None if difference is None else interval(difference.value.interval),
        "p": None if difference is None else difference.adjusted_p,
        "verdict": verdict if difference is None else difference.verdict,
    }
