"""Reads a run's folder, also while the run writes to it. Knows the files; does not know the page.

Leaves out what is missing, incomplete or damaged, so that unfinished runs and runs of earlier versions can be reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from rosd_kit.errors import RecipeError, RunError
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.files import is_locked, read_json_object
from rosd_kit.recipe.shipped import label
from rosd_kit.recipe.sources import parse
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.run.folder import LOCK, ORIGINS
from rosd_kit.run.records import in_words, read_records
from rosd_kit.settings import WatchSettings
from rosd_kit.types import JsonObject

Record = JsonObject
Warn = Callable[[str], object]


def silent(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """The records in a run's folder except the samples, in order of steps."""

    folder: Path
    recipe_text: str
    recipe: Record
    environment: Record
    origins: Record
    metrics: list[Record]
    evaluations: list[Record]

    @classmethod
    def read(cls, folder: Path, warn: Warn = silent) -> RunRecords:
        """Read a run's folder; `warn` is told what is left out. Raises `RunError` if it is not one."""
        recipe = folder / "recipe.yaml"
        if not recipe.is_file():
            raise RunError(
                f"report: {str(folder)!r} is not a run folder (no recipe.yaml). Give a run's folder, for example runs/rosd-1."
            )
        try:
            text = recipe.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"report: {recipe} cannot be read as text: {error}.") from error
        return cls(
            folder=folder,
            recipe_text=text,
            recipe=_values(recipe, text, warn),
            environment=_object(folder / "environment.json", warn),
            origins=_object(folder / ORIGINS, warn),
            metrics=records(folder / "metrics.jsonl", warn),
            evaluations=[record for record in records(folder / "evaluations.jsonl", warn) if record.get("results")],
        )

    @property
    def last_step(self) -> int:
        """The last recorded step; 0 before the first."""
        return max((record["step"] for record in self.metrics), default=0)

    @property
    def state(self) -> Literal["running", "finished", "stopped"]:
        """Whether a process works in the folder; if none does, whether the last step was taken.

        After its last step a run still evaluates and exports. Where locks are not known, an unfinished run counts as running.
        """
        steps, locked = self.recipe.get("steps"), is_locked(self.folder / LOCK)
        over = isinstance(steps, int) and self.last_step >= steps
        if locked or (locked is None and not over):
            return "running"
        return "finished" if over else "stopped"

    @property
    def watch(self) -> WatchSettings:
        """The thresholds of the run's warnings; the defaults if the recipe's are missing or invalid."""
        try:
            return WatchSettings(**_mapping(self.recipe.get("watch")))
        except pydantic.ValidationError:
            return WatchSettings()

    def results(self, index: int) -> list[SuiteResult]:
        """Return the results of an evaluation by its index."""
        return [SuiteResult.from_json(result) for result in self.evaluations[index]["results"]]

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the comparison of the last evaluation with the first; empty if they cannot be compared."""
        if len(self.evaluations) < 2:
            return ()
        try:
            return compare(self.results(0), self.results(-1))
        except RunError:
            return ()

    def warnings(self) -> list[Record]:
        """Return the collapse warnings of the run, each with its step and text."""
        verifier, gate = (_mapping(self.recipe.get(slot)) for slot in ("verifier", "gate"))
        watch = CollapseWatch(
            self.watch,
            self.recipe.get("steps"),
            truncated=str(verifier.get("truncated", "wrong")),
            drops_truncated=gate.get("truncated", "keep") != "keep",
        )
        warnings: list[Record] = []
        metrics = {record["step"]: record for record in self.metrics}
        evaluations = {record["step"]: index for index, record in enumerate(self.evaluations)}
        for step in sorted({*evaluations, *metrics}):
            texts = _step_warnings(watch, metrics[step]) if step in metrics else []
            if step in evaluations:
                texts += watch.evaluation(self.results(evaluations[step]))
            warnings += [{"step": step, "text": text} for text in texts]
        return warnings


def sample_files(folder: Path) -> list[Path]:
    """Return the run's sample files, in order of steps."""
    return sorted((folder / "samples").glob("step-*.jsonl"))


def records(file: Path, warn: Warn = silent) -> list[Record]:
    """Return the records in a file of JSON lines; leaves out lines that are damaged, and tells `warn` of them."""
    read = read_records(file)
    if read.damaged:
        lines = in_words(line.number for line in read.damaged)
        warn(f"{file}: line {lines} left out: {read.damaged[0].why}")
    return read.whole


def _values(file: Path, text: str, warn: Warn) -> Record:
    """Return what a recipe says, as plain values; nothing where it cannot be read."""
    try:
        return parse(text, label(file))
    except RecipeError as error:
        warn(f"{error}; shown as text only")
        return {}


def _object(file: Path, warn: Warn) -> Record:
    found = read_json_object(file)
    if not found and file.is_file():
        warn(f"{file}: holds no JSON object, and is left out")
    return found


def _step_warnings(watch: CollapseWatch, record: Record) -> list[str]:
    warnings = watch.step({name: value for name, value in record.items() if value is not None})
    if record.get("train/applied") == 0:
        warnings.append(f"the update of step {record['step']} was skipped: its loss or gradient was not finite.")
    return warnings


def _mapping(value: object) -> Record:
    return value if isinstance(value, dict) else {}
