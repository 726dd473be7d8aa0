"""How far the trials of a sweep are: what a trial's own files say while it runs, and what its result says at its end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path

from rosd_kit.display.text import duration, percent
from rosd_kit.run.records import EVALUATIONS, METRICS, read_records
from rosd_kit.sweep.plan import Plan
from rosd_kit.sweep.store import Row, Store
from rosd_kit.sweep.worker import TRIALS
from rosd_kit.types import JsonObject

_TAIL = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TrialLabel:
    """What a trial is called: its values on the axes and its seed; and how many steps it takes."""

    values: tuple[str, ...]
    seed: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """How far a trial is.

    `score` is the mean of its latest evaluation in the trained domain in [0, 1], or of all suites where none is trained;
    `success` is the share of right rollouts at its latest step. Both are NaN before the first, where `seconds_per_step` is 0.
    `seconds` is how long a finished trial took, with loading and evaluations.
    """

    state: str
    step: int = 0
    score: float = nan
    success: float = nan
    seconds_per_step: float = 0.0
    seconds: float = 0.0


def trial_labels(plan: Plan) -> dict[str, TrialLabel]:
    """Return the label of each trial, by id."""
    return {
        trial.id: TrialLabel(
            values=tuple(plan.labels(plan.combinations[trial.combination])), seed=trial.seed, steps=trial.recipe.steps
        )
        for trial in plan.trials
    }


def read_progress(folder: Path, store: Store, ids: Sequence[str]) -> dict[str, TrialProgress]:
    """Return how far each trial is, by id. Reads only the end of the files of those that run."""
    progress = {id: _progress(folder / TRIALS / id, state) for id, state in store.states(ids).items()}
    return progress | {id: replace(progress[id], seconds=seconds) for id, seconds in store.seconds(progress).items()}


def seconds_left(labels: Mapping[str, TrialLabel], progress: Mapping[str, TrialProgress], jobs: int) -> float | None:
    """Return how long all unfinished trials take at the speed of the finished ones, or else of those that have begun.

    None before any step.
    """
    finished = [one.seconds / labels[id].steps for id, one in progress.items() if one.seconds]
    speeds = finished or [one.seconds_per_step for one in progress.values() if one.seconds_per_step]
    if not speeds:
        return None
    usual = sum(speeds) / len(speeds)
    left = [
        (labels[id].steps - one.step) * (usual if finished else one.seconds_per_step or usual)
        for id, one in progress.items()
        if one.state in ("waiting", "running")
    ]
    return max(sum(left) / max(1, jobs), max(left, default=0.0))


def describe_end(label: TrialLabel, axes: Sequence[str], row: Row) -> str:
    """Return a trial's combination and its result, in one line."""
    parts = [f"{axis}={value}" for axis, value in zip(axes, label.values, strict=True)] + [f"seed {label.seed}"]
    if row.result is not None and row.result["evaluations"]:
        before, after = (_score(row.result["evaluations"][index]["results"]) for index in (0, -1))
        if isfinite(after):
            parts.append(f"held-out {percent(before)} -> {percent(after)} %")
    if row.result is not None:
        parts.append(f"in {duration(row.result['seconds'])}")
    return ", ".join(parts)


def _progress(path: Path, state: str) -> TrialProgress:
    if state == "waiting" and not (path / METRICS).is_file():
        return TrialProgress(state=state)
    last = _last_records(path / METRICS)
    evaluations = read_records(path / EVALUATIONS).whole
    times = [time for record in last if isinstance(time := record.get("time/step"), float)]
    success = last[-1].get("rollout/success") if last else None
    return TrialProgress(
        state=state,
        step=last[-1]["step"] if last else 0,
        score=_score(evaluations[-1]["results"]) if evaluations else nan,
        success=success if isinstance(success, float) else nan,
        seconds_per_step=sum(times) / len(times) if times else 0.0,
    )


def _last_records(file: Path) -> list[JsonObject]:
    """Return the records at the end of a file of metrics, whatever else is in it."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return []
    records = []
    for line in lines[:-1]:
        try:
            record = json.loads(line)
        except ValueError:  # the first line of the tail is half a line
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _score(results: Sequence[JsonObject]) -> float:
    chosen = [result for result in results if result["in_domain"]] or results
    means = [result["mean"] for result in chosen if result["mean"] is not None]
    return sum(means) / len(means) if means else nan
