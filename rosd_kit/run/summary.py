"""Summarises a run: counts over all steps, comparisons, and what to try next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.display.base import RunSummary
from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult, compare
from rosd_kit.recipe import Recipe
from rosd_kit.run.records import EVALUATIONS, METRICS, read_records
from rosd_kit.run.state import Run

_ROLLOUTS = frozenset({"rollout/count", "rollout/truncated", "train/samples"})


def oracle_totals(records: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Return the sum of every `oracle/` count over the records of `metrics.jsonl`."""
    return _totals(records, lambda name: name.startswith("oracle/"))


def _totals(records: Sequence[Mapping[str, object]], counts: Callable[[str], bool]) -> dict[str, float]:
    totals: Counter[str] = Counter()
    for record in records:
        for name, value in record.items():
            if counts(name) and isinstance(value, (int, float)):
                totals[name] += value  # type: ignore[assignment]
    return dict(totals)


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended: where its folder is, whether every step was taken, and the summary (on the main rank, when finished)."""

    path: Path
    finished: bool
    summary: RunSummary | None = None


def read_evaluations(folder: Path) -> dict[int, tuple[SuiteResult, ...]]:
    """Return the evaluations of a run by step."""
    records = read_records(folder / EVALUATIONS).whole
    return {record["step"]: tuple(map(SuiteResult.from_json, record["results"])) for record in records}


def summarise_run(run: Run, *, seconds: float) -> RunSummary:
    """Summarise a finished run from its records, with the commands to try next."""
    evaluations = read_evaluations(run.folder.path)
    records = run.folder.read(METRICS)
    trained = any(record.get("train/samples") for record in records)
    knows_truth = "oracle" in run.components.task.provides
    commands = next_steps(run.folder.path, run.recipe, knows_truth=knows_truth, trained=trained)
    return summarise(
        name=run.recipe.name,
        folder=run.folder.path,
        steps=run.recipe.steps,
        seconds=seconds,
        records=records,
        before=evaluations.get(0, ()),
        after=evaluations.get(run.recipe.steps, ()),
        warnings=run.reporter.warnings,
        next_steps=[run.reporter.plugins.hint(command) for command in commands],
    )


def summarise(
    *,
    name: str,
    folder: Path,
    steps: int,
    seconds: float,
    records: Sequence[Mapping[str, object]],
    before: Sequence[SuiteResult],
    after: Sequence[SuiteResult],
    warnings: Sequence[str],
    next_steps: Sequence[str] = (),
) -> RunSummary:
    """Summarise a run; evaluations that cannot be compared become a warning."""
    try:
        comparisons = compare(before, after) if before and after else ()
    except RunError as error:
        comparisons, warnings = (), [*warnings, str(error)]
    return RunSummary(
        name=name,
        folder=str(folder),
        steps=steps,
        seconds=seconds,
        comparisons=comparisons,
        localisation=oracle_totals(records),
        rollouts=_totals(records, _ROLLOUTS.__contains__),
        warnings=tuple(warnings),
        next_steps=tuple(next_steps),
    )


def next_steps(folder: Path, recipe: Recipe, *, knows_truth: bool, trained: bool) -> tuple[str, ...]:
    """Return commands to try after a run: look at it, measure it, or repeat it with another component in one of its slots.

    After a run that had nothing to train on, no other component helps: see what becomes of each rollout.
    """
    again = f"rosd-kit run {shlex.quote(str(folder / 'recipe.yaml'))}"
    steps = [f"rosd-kit {look} {shlex.quote(str(folder))}" for look in ("report", "eval")]
    if not trained:
        return steps[0], f"{again} --dry-run    # one step: what becomes of each rollout, and why"
    if recipe.reflector.name not in ("none", "oracle") and knows_truth:
        steps.append(f"{again} reflector=oracle localizer=oracle    # the upper bound")
    if recipe.localizer.name != "full":
        steps.append(f"{again} localizer=full    # whole responses")
    return (*steps, "rosd-kit components    # what else fits the slots")
