"""The built-in observer `trackers`: logs metrics, evaluations and the recipe to tensorboard, trackio, wandb or mlflow.

The recipe chooses them with `tracking.to`; accelerate's trackers do the work. A tracker that fails is reported once and
dropped: neither the run nor the other trackers stop.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rosd_kit.files import read_json_object
from rosd_kit.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate.tracking import GeneralTracker

    from rosd_kit.evaluation.results import SuiteResult
    from rosd_kit.plugins.run_view import RunView

#: Keeps the trackers' ids of the run, so that a resumed run continues there.
_IDS = "tracking.json"


class TrackersFailed(Exception):
    """Some trackers failed; the message names each with its reason."""


@dataclass
class Trackers:
    """The open trackers of the current run, by name."""

    open: dict[str, GeneralTracker] = field(default_factory=dict)

    @hookimpl
    def rosd_kit_run_start(self, run: RunView) -> None:
        """Open every tracker that the recipe names and log the recipe."""
        self.open = {}
        faults: dict[str, BaseException] = {}
        for name in run.recipe.tracking.to:
            try:
                with redirect_stdout(sys.stderr):  # what a run prints may be JSON for a program
                    tracker = _opened(name, run)
                    tracker.store_init_configuration(dict(_settings(run)))
            except (Exception, SystemExit) as error:
                faults[name] = error
            else:
                self.open[name] = tracker
        _tell(faults)

    @hookimpl
    def rosd_kit_step_end(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log a step's metrics."""
        self._each(lambda tracker: tracker.log(dict(metrics), step=step))

    @hookimpl
    def rosd_kit_evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        """Log the mean of every suite and its interval, as `evaluation/<suite>/...`."""
        values = {f"evaluation/{result.suite}/{name}": value for result in results for name, value in _figures(result)}
        if values:
            self._each(lambda tracker: tracker.log(values, step=step))

    @hookimpl
    def rosd_kit_run_end(self) -> None:
        """Close every tracker."""
        self._each(lambda tracker: tracker.finish())
        self.open = {}

    def _each(self, do: Callable[[GeneralTracker], object]) -> None:
        """Apply `do` to every tracker; drop those that fail and report them after all others were served."""
        faults: dict[str, BaseException] = {}
        for name, tracker in list(self.open.items()):
            try:
                with redirect_stdout(sys.stderr):
                    do(tracker)
            except (Exception, SystemExit) as error:
                faults[name] = error
                del self.open[name]
        _tell(faults)


def missing(name: str) -> str | None:
    """Return how to install a tracker's package, or None if it is installed."""
    packages = {"tensorboard": ("tensorboard", "tensorboardX")}.get(name, (name,))
    if any(importlib.util.find_spec(package) for package in packages):
        return None
    return f"{name} is not installed. Run: pip install 'rosd-kit[{name}]'"


def _opened(name: str, run: RunView) -> GeneralTracker:
    """Return a started tracker; its id of the run is kept in the run's folder."""
    from accelerate import tracking

    if fault := missing(name):
        raise ModuleNotFoundError(fault)
    project, folder = run.recipe.tracking.project, run.path.resolve()
    file = run.path / _IDS
    ids = read_json_object(file)
    known = ids.setdefault(name, uuid.uuid4().hex[:12] if name != "mlflow" else None)
    tracker: GeneralTracker
    if name == "tensorboard":
        tracker = tracking.TensorBoardTracker(name, folder, purge_step=run.step + 1 if run.step else None)
    elif name == "wandb":
        tracker = tracking.WandBTracker(project, name=folder.name, dir=str(folder), id=known, resume="allow")
    elif name == "trackio":
        tracker = tracking.TrackioTracker(project, name=f"{folder.name}-{known}", resume="allow", embed=False)
    else:
        _place_mlflow(folder)
        tracker = tracking.MLflowTracker(project, run_id=known, run_name=folder.name)
    tracker.start()
    if name == "mlflow":
        ids[name] = tracker.tracker.info.run_id
    file.write_text(json.dumps(ids))
    return tracker


def _place_mlflow(folder: Path) -> None:
    """Let mlflow write into the run's folder unless the environment names a server."""
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")


def _settings(run: RunView) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the resolved recipe as dotted names and plain values."""

    def leaves(path: str, value: object) -> Iterator[tuple[str, bool | int | float | str]]:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                yield from leaves(f"{path}.{key}" if path else str(key), item)
        else:
            yield path, value if isinstance(value, bool | int | float | str) else str(value)

    yield from leaves("", run.values)


def _figures(result: SuiteResult) -> Iterator[tuple[str, float]]:
    yield "mean", result.mean
    yield "low", result.low
    yield "high", result.high
    yield "format_rate", result.format_rate
    yield "mean_tokens", result.mean_tokens
    for name, value in result.traits.items():
        yield f"trait/{name}", value


def _tell(faults: Mapping[str, BaseException]) -> None:
    if faults:
        message = "; ".join(f"{name} is left out: {type(error).__name__}: {error}" for name, error in faults.items())
        raise TrackersFailed(message)
