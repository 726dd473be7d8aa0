"""Reads a run's folder, also while it is being written. Knows what the files are, and nothing of pages.

Whatever is missing or cut off is left out: a report of half a run, or of a run of an earlier version, is a report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.files import read_json_lines
from rosd_kit.renames import with_current_metrics
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.settings import WatchSettings

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """What a run's folder holds besides its samples, in the order of steps."""

    folder: Path
    recipe_text: str
    recipe: Record
    environment: Record
    metrics: list[Record]
    evaluations: list[Record]

    @classmethod
    def read(cls, folder: Path) -> RunRecords:
        """Read a run's folder. Raises `RunError` when it is none."""
        recipe = folder / "recipe.yaml"
        if not recipe.is_file():
            raise RunError(f"report: {str(folder)!r} holds no run (no recipe.yaml). Give a run's folder, such as runs/rosd-1.")
        text = recipe.read_text(encoding="utf-8")
        return cls(
            folder=folder,
            recipe_text=text,
            recipe=_mapping(yaml.safe_load(text)),
            environment=_environment(folder / "environment.json"),
            metrics=records(folder / "metrics.jsonl"),
            evaluations=[record for record in records(folder / "evaluations.jsonl") if record.get("results")],
        )

    @property
    def watch(self) -> WatchSettings:
        """The thresholds of the run's warnings; the defaults where its recipe has none that can be read."""
        try:
            return WatchSettings(**_mapping(self.recipe.get("watch")))
        except pydantic.ValidationError:
            return WatchSettings()

    def results(self, place: int) -> list[SuiteResult]:
        """Return the results of an evaluation by its place in the run."""
        return [SuiteResult.from_json(result) for result in self.evaluations[place]["results"]]

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the last evaluation held against the first; nothing where they cannot be compared."""
        if len(self.evaluations) < 2:
            return ()
        try:
            return compare(self.results(0), self.results(-1))
        except RunError:
            return ()

    def warnings(self) -> list[Record]:
        """Return what the run's watch has to say of it: step and text."""
        watch = CollapseWatch(self.watch, self.recipe.get("steps"))
        told: list[tuple[int, str]] = []
        metrics = {record["step"]: record for record in self.metrics}
        evaluations = {record["step"]: place for place, record in enumerate(self.evaluations)}
        for step in sorted({*evaluations, *metrics}):
            told += [(step, text) for text in _step(watch, metrics[step])] if step in metrics else []
            if step in evaluations:
                told += [(step, text) for text in watch.evaluation(self.results(evaluations[step]))]
        return [{"step": step, "text": text} for step, text in told]


def sample_files(folder: Path) -> list[Path]:
    """Return the run's files of samples in the order of steps."""
    return sorted((folder / "samples").glob("step-*.jsonl"))


def records(file: Path) -> list[Record]:
    """Return the records of a file of JSON lines with a step; a line that is cut off or none of ours is left out."""
    if not file.is_file():
        return []
    values = read_json_lines(file, damaged="skip")
    return [with_current_metrics(value) for value in values if isinstance(value, dict) and isinstance(value.get("step"), int)]


def _step(watch: CollapseWatch, record: Mapping[str, Any]) -> list[str]:
    told = watch.step({name: value for name, value in record.items() if value is not None})
    if record.get("train/applied") == 0:
        told.append(f"the update of step {record['step']} was skipped: its loss or gradient was not finite.")
    return told


def _environment(file: Path) -> Record:
    try:
        return _mapping(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}
