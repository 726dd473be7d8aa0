"""What each process of a test does: python worker.py OUT JOBS, with jobs as JSON; started by torch.distributed.run.

A job is {"recipe", "changes", and "name" or "resume"}; with "kill": [rank, step] that process is killed in that step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rosd_kit.display import make_display
from rosd_kit.errors import RosdError
from rosd_kit.loop import execute
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.train.optimizer import Optimizer, StepOutcome

WITNESS = Path(__file__).with_name("witness.py")


def kill_at(rank: int, step: int) -> None:
    """Kill one process when it is about to apply the update of a step."""
    update = Optimizer.step

    def last(optimizer: Optimizer, loss: float) -> StepOutcome:
        if optimizer.step_count == step and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(optimizer, loss)

    Optimizer.step = last  # type: ignore[method-assign]


def work(out: Path, jobs: list[dict[str, Any]]) -> None:
    """Run the jobs one after the other."""
    for job in jobs:
        if "kill" in job:
            kill_at(*job["kill"])
        manager = PluginManager(files=[WITNESS], selection="builtin")
        recipe = load_recipe(job["recipe"], job["changes"], registry=manager.registry)
        resume = Path(job["resume"]) if "resume" in job else None
        execute(recipe, plugins=manager, out=out, name=job.get("name"), resume=resume, display=make_display(quiet=True))


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except RosdError as error:
        sys.exit(f"error: {error}")
