"""Runs jobs in several processes: `python -m tests.parallel.worker` reads one JSON order per line and answers each with a line.

An order is {"out", "jobs", "processes"}, its answer {"code", "output"}. A job is {"recipe", "changes", and "name" or "resume"};
"at": [rank, step, what] kills that rank in that step, or makes it raise; "kill_in_save": [rank, n] kills that rank at the main
rank's n-th operation on files of checkpoints, and prints how many there were; "slow_close": seconds lengthens the cleanup;
"old_torch" removes what only newer torch has.
torchrun's own agent starts and watches the processes, but as forks of this one, which has already imported everything.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed.fsdp import FSDPModule
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from rosd_kit.display import make_display
from rosd_kit.errors import RosdError
from rosd_kit.pipeline.prefetch import Prefetcher
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe
from rosd_kit.training.optimizer import Optimizer, StepOutcome
from tests.run.harness import Killer, import_everything

WITNESS = Path(__file__).with_name("witness.py")


def fail_at(rank: int, step: int, what: str) -> None:
    """Make one rank fail just before it applies the update of a step."""
    update = Optimizer.step

    def failing_step(optimizer: Optimizer, loss: float, *, ends_step: bool = True) -> StepOutcome:
        if optimizer.step_count == step and int(os.environ["RANK"]) == rank:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError(what)
        return update(optimizer, loss, ends_step=ends_step)

    Optimizer.step = failing_step  # type: ignore[method-assign]


class RankKiller(Killer):
    """Kills a rank at the main rank's n-th operation on files of checkpoints."""

    def __init__(self, checkpoints: Path, victim: Path, at: int) -> None:
        self.victim = victim
        super().__init__(str(checkpoints), at, all_removals=False)

    def operation(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(int(self.victim.read_text()), signal.SIGKILL)


def killer_in_saves(out: Path, job: dict[str, Any]) -> RankKiller | None:
    """Return the main rank's killer; every rank writes its process id for it."""
    rank, at = job["kill_in_save"]
    (out / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    return RankKiller(out / job["name"] / "checkpoints", out / f"pid-{rank}", at) if os.environ["RANK"] == "0" else None


def slow_close(seconds: float) -> None:
    """Make runs take longer to close, so that the launcher's SIGTERM comes before a rank has reported."""
    close = Prefetcher.close

    def slow(prefetcher: Prefetcher) -> None:
        close(prefetcher)
        time.sleep(seconds)

    Prefetcher.close = slow  # type: ignore[method-assign]


def work(out: Path, jobs: list[dict[str, Any]]) -> None:
    """Run the jobs one after the other."""
    for job in jobs:
        if "at" in job:
            fail_at(*job["at"])
        if "slow_close" in job:
            slow_close(job["slow_close"])
        killer = killer_in_saves(out, job) if "kill_in_save" in job else None
        if "old_torch" in job:
            del FSDPModule.reset_iter_state
        manager = PluginManager(files=[WITNESS], selection="builtin")
        recipe = load_recipe(job["recipe"], job["changes"], registry=manager.registry)
        resume = Path(job["resume"]) if "resume" in job else None
        run_recipe(recipe, plugins=manager, out=out, name=job.get("name"), resume=resume, display=make_display(quiet=True))
        if killer is not None:
            print(f"operations: {killer.count}", flush=True)


def work_as_one_of_several(out: Path, jobs: list[dict[str, Any]]) -> None:
    PartialState._reset_state()
    torch.set_num_threads(1)
    try:
        work(out, jobs)
    except RosdError as error:
        sys.exit(f"error: {error}")


def launch(order: dict[str, Any], log: Path) -> int:
    """Run an order's processes from a fork of this one; write their output to the log and return the exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["WITNESS"] = order["out"]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=order["processes"],
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        start_method="fork",
        max_restarts=0,
    )
    code = 1
    try:
        elastic_launch(config, work_as_one_of_several)(Path(order["out"]), order["jobs"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    import_everything()
    for line in sys.stdin:
        order = json.loads(line)
        log = Path(order["out"], "output")
        code = launch(order, log)
        print(json.dumps({"code": code, "output": log.read_text(errors="replace")}), flush=True)
