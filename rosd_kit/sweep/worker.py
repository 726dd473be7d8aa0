"""Runs one trial in its own process: `python -m rosd_kit.sweep.worker FOLDER ID TOKEN LEASE RECIPE PLUGINS`.

A launcher starts it. RECIPE and PLUGINS are digests of what the sweep planned: only that is trusted, since anyone may have
written the folder's store.

The worker takes the trial over with its token, resumes from the trial's own checkpoint, and records the result in the store.
Meanwhile it renews its lease. When another process holds the trial, it exits at once.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rosd_kit.errors import RosdError, RunError
from rosd_kit.files import lock_file, read_json_lines, read_json_object
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.records import EvaluationRecord, TrialResult
from rosd_kit.sweep.store import FILE, Row, Store
from rosd_kit.types import JsonObject

DONE, FAILED, STOPPED, NOT_HELD = 0, 13, 14, 15
"""Exit codes: finished, failed, stopped on request, and held by another process. Any other code is a crash."""
TRIALS, EVALUATIONS, LOGS = "trials", "evaluations", "logs"
_MAX_RENEWAL_SECONDS = 2.0


def main(argv: list[str]) -> int:
    """Run the trial and return the exit code."""
    folder, id, token, lease = Path(argv[0]), argv[1], argv[2], float(argv[3])
    with Store(folder) as store:
        row = store.take_over(id, LeaseHolder.this_process(token), lease)
        if row is None:
            return NOT_HELD
        if _is_in_use(folder / TRIALS / id):
            store.release(id, token)
            return NOT_HELD
        LeaseRenewer(folder, id, token, lease).start()
        try:
            result = _run(folder, row, argv[4:], store.origins(id))
        except KeyboardInterrupt:
            result = None
        except BaseException as error:  # also SystemExit: a part of the run that exits has not finished the trial
            traceback.print_exc()
            store.fail(id, token, str(error) if isinstance(error, RosdError) else f"{type(error).__name__}: {error}")
            return FAILED
        if result is None:
            store.release(id, token)
            return STOPPED
        return DONE if store.finish(id, token, result) else NOT_HELD


class LeaseRenewer(threading.Thread):
    """Renews the lease in the background; interrupts the run on a stop request, and exits when the trial was lost."""

    def __init__(self, folder: Path, id: str, token: str, lease: float) -> None:
        super().__init__(daemon=True)
        self._folder, self._id, self._token, self._lease = folder, id, token, lease

    def run(self) -> None:
        """Renew until the process ends."""
        store, interrupted = Store(self._folder), False
        while True:
            time.sleep(min(_MAX_RENEWAL_SECONDS, self._lease / 4))
            try:
                stop = store.renew(self._id, self._token, self._lease)
            except sqlite3.OperationalError:  # the database stayed busy; the current lease still runs
                continue
            if stop is None and store.rows([self._id])[self._id].state == "running":
                os._exit(NOT_HELD)
            if stop and not interrupted:
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)


def _run(folder: Path, row: Row, planned: Sequence[str], origins: str | None) -> TrialResult | None:
    """Train to the end and return the result to store, or None when the run was stopped before."""
    start = time.time()
    from rich.console import Console

    from rosd_kit.display.plain import PlainDisplay
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import resolve_recipe
    from rosd_kit.recipe.trust import check_trust
    from rosd_kit.run.loop import run_recipe
    from rosd_kit.sweep.baseline import SharedBaseline
    from rosd_kit.sweep.origins import with_stored_origins
    from rosd_kit.sweep.trial_id import trial_id, trust_digests

    recipe_digest, plugins_digest = trust_digests(row.recipe, row.plugins)
    if row.plugins and plugins_digest not in planned:
        raise RunError(
            f"the store of {folder} names plugin files that this sweep was not started with: {', '.join(row.plugins)}. If you "
            "trust them, give the same to --plugin"
        )
    path = folder / TRIALS / row.id
    started_before = (path / "recipe.yaml").is_file()
    if not started_before:
        shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe_file = path.parent / f".{row.id}.yaml"
    recipe_file.write_text(row.recipe)
    plugins = PluginManager([Path(file) for file in row.plugins])
    resolution = resolve_recipe(recipe_file, registry=plugins.registry)
    if recipe_digest not in planned:
        check_trust(resolution.asks, plugins.registry)
    if (id := trial_id(resolution.recipe, plugins.registry)) != row.id:
        raise RunError(
            f"the store of {folder} holds another recipe for trial {row.id}: it would be trial {id}. "
            f"Restore {FILE}, or begin a new sweep"
        )
    outcome = run_recipe(
        resolution.recipe,
        plugins=plugins,
        out=path.parent,
        name=row.id,
        resume=path if started_before else None,
        display=PlainDisplay(Console(width=120)),
        baseline=SharedBaseline(folder / EVALUATIONS),
        resolution=with_stored_origins(resolution, origins),
    )
    recipe_file.unlink(missing_ok=True)
    if outcome.summary is None:
        return None
    return {
        "evaluations": [cast(EvaluationRecord, line) for line in read_json_lines(path / "evaluations.jsonl")],
        "resumed": started_before,
        "made_with": _made_with(path),
        "warnings": list(outcome.summary.warnings),
        "seconds": time.time() - start,
        "training": _means(path / "metrics.jsonl"),
    }


def _means(file: Path) -> dict[str, float]:
    """Return the mean of each metric over the steps that have it."""
    values: dict[str, list[float]] = {}
    for step in read_json_lines(file):
        for name, value in cast(JsonObject, step).items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in sorted(values.items())}


def _made_with(path: Path) -> dict[str, object]:
    """Return the environment that produced a run's results."""
    from rosd_kit.sweep.trial_id import source_digest

    environment = read_json_object(path / "environment.json")
    names = ("python", "versions", "model", "device", "threads")
    return {**{name: environment.get(name) for name in names}, "source": source_digest()}


def _is_in_use(path: Path) -> bool:
    """Return whether a process that lost the trial still works in its folder."""
    if not (path / ".lock").is_file():
        return False
    try:
        lock_file(path / ".lock").close()
    except BlockingIOError:
        return True
    return False


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
