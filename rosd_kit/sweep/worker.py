"""One trial in a process of its own: `python -m rosd_kit.sweep.worker FOLDER ID TOKEN LEASE`, started by a launcher.

It takes the trial over under the token, goes on from the trial's own checkpoint, and says in the store what came out. While
it works it renews its lease; when it finds that somebody else took the trial it ends at once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from rosd_kit.errors import RosdError
from rosd_kit.files import lock_file, read_json_lines
from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.store import Row, Store

DONE, FAILED, STOPPED, ELSEWHERE = 0, 13, 14, 15
"""Exit codes: finished, failed, stopped and let go, and not this process's trial. Every other one is a death."""
TRIALS, EVALUATIONS, LOGS = "trials", "evaluations", "logs"
_ASK_EVERY = 2.0


def main(argv: list[str]) -> int:
    """Run the trial and return the exit code."""
    folder, id, token, lease = Path(argv[0]), argv[1], argv[2], float(argv[3])
    with Store(folder) as store:
        me = Owner.me(token)
        row = store.take_over(id, me, lease)
        if row is None:
            return ELSEWHERE
        if _is_busy(folder / TRIALS / id):
            store.release(id, token)
            return ELSEWHERE
        Heart(folder, id, token, lease).start()
        began = time.time()
        try:
            result = _run(folder, row)
        except KeyboardInterrupt:
            result = None
        except Exception as error:
            traceback.print_exc()
            store.fail(id, token, str(error) if isinstance(error, RosdError) else f"{type(error).__name__}: {error}")
            return FAILED
        if result is None:
            store.release(id, token)
            return STOPPED
        return DONE if store.finish(id, token, {**result, "seconds": time.time() - began}) else ELSEWHERE


class Heart(threading.Thread):
    """Renews the lease; hears from the store that the trial should stop, or that it is somebody else's."""

    def __init__(self, folder: Path, id: str, token: str, lease: float) -> None:
        super().__init__(daemon=True)
        self._where = (folder, id, token, lease)

    def run(self) -> None:
        """Beat until the process ends."""
        folder, id, token, lease = self._where
        store, asked = Store(folder), False
        while True:
            time.sleep(min(_ASK_EVERY, lease / 4))
            try:
                stop = store.renew(id, token, lease)
            except sqlite3.OperationalError:  # busy beyond all patience; the lease still runs
                continue
            if stop is None and store.rows([id])[id].state == "running":
                os._exit(ELSEWHERE)
            if stop and not asked:
                asked = True
                os.kill(os.getpid(), signal.SIGINT)


def _run(folder: Path, row: Row) -> dict[str, Any] | None:
    """Train to the end and return what the store keeps of it; None when it was stopped before."""
    from rich.console import Console

    from rosd_kit.display.plain import PlainDisplay
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import load_recipe
    from rosd_kit.run.loop import run_recipe
    from rosd_kit.sweep.baseline import SharedBaseline

    path = folder / TRIALS / row.id
    begun = (path / "recipe.yaml").is_file()
    if not begun:
        shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = path.parent / f".{row.id}.yaml"
    asked.write_text(row.recipe)
    plugins = PluginManager([Path(file) for file in row.plugins])
    outcome = run_recipe(
        load_recipe(asked, registry=plugins.registry),
        plugins=plugins,
        out=path.parent,
        name=row.id,
        resume=path if begun else None,
        display=PlainDisplay(Console(width=120)),
        baseline=SharedBaseline(folder / EVALUATIONS),
    )
    asked.unlink(missing_ok=True)
    if outcome.summary is None:
        return None
    return _result(path, resumed=begun) | {"warnings": list(outcome.summary.warnings)}


def _result(path: Path, *, resumed: bool) -> dict[str, Any]:
    """Return the evaluations by step, and what they were made with."""
    from rosd_kit.sweep.trial_id import source_digest

    environment = json.loads((path / "environment.json").read_text())
    made_with = {name: environment[name] for name in ("python", "versions", "model", "device", "threads")}
    return {
        "evaluations": list(read_json_lines(path / "evaluations.jsonl")),
        "resumed": resumed,
        "made_with": {**made_with, "source": source_digest()},
    }


def _is_busy(path: Path) -> bool:
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
