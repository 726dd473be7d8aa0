"""Forks a child for each job, which runs the command line and may kill itself at its n-th file operation.

Usage: python harness.py RUNS; it reads a list of jobs a line and answers with a list of results.
A job is {"args": [...], "kill_at": operation, "kill_in_step": step, "largest": bytes of a file}, some of it or all.
Forking after all imports makes a job as quick as the run itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import rosd_kit.loop
import rosd_kit.rundir
from rosd_kit.cli import main
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.settings import ModelSettings, OptimizerSettings
from rosd_kit.train import checkpoint
from rosd_kit.train.optimizer import Optimizer
from rosd_kit.train.student import Student

WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


class Killer:
    """Counts what is done to files below `runs`; every write also counts once when half of it is done."""

    def __init__(self, runs: str, at: int) -> None:
        self.runs, self.at, self.count = runs, at, 0
        sys.addaudithook(self._audit)
        self._save, self._append, self._write_text = checkpoint.save_file, rosd_kit.rundir._append, Path.write_text
        checkpoint.save_file = self._half_save
        rosd_kit.rundir._append = self._half_append
        Path.write_text = lambda *args, **options: self._half_write_text(*args, **options)  # type: ignore[method-assign]

    def operation(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in WATCHED and (str(args[0]).startswith(self.runs) or event in ("os.remove", "os.rmdir")):
            self.operation()

    def _half_save(self, tensors: Any, file: Path) -> None:
        file.write_bytes(b"half")
        self._save(tensors, file)

    def _half_append(self, file: Path, line: str) -> None:
        self._append(file, line[: len(line) // 2])
        self._append(file, line[len(line) // 2 :])

    def _half_write_text(self, file: Path, text: str, **options: Any) -> int:
        self._write_text(file, text[: len(text) // 2], **options)
        return self._write_text(file, text, **options)


def work(runs: str, job: dict[str, Any], log: Path) -> None:
    torch.set_num_threads(1)
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if job.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
    if job.get("kill_in_step"):
        kill_in_step(job["kill_in_step"])
    killer = Killer(runs, job.get("kill_at", 0))
    code: Any = 1
    try:
        main(job["args"])
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        print(f"\noperations: {killer.count}", flush=True)
        os._exit(code)


def kill_in_step(step: int) -> None:
    """Kill the process between the end of a step and its checkpoint."""
    save = rosd_kit.loop._save

    def killing(run: Any) -> None:
        if run.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        save(run)

    rosd_kit.loop._save = killing


def import_everything() -> None:
    """Import what a run imports on its way; no gradient is taken, after which torch could not be forked."""
    registry = PluginManager().registry
    parts = build_components(load_recipe("rosd", registry=registry), registry)
    student = Student.load(ModelSettings(path="micro-blank", device="cpu"), keep_initial=False)
    parts.rollout.start(student)
    for parameter in student.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(student.model, OptimizerSettings(), steps=1).step(0.0)


def fork(runs: str, job: dict[str, Any], log: Path) -> dict[str, Any]:
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        work(runs, job, log)
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "told": log.read_text(errors="replace")}


if __name__ == "__main__":
    folder = sys.argv[1]
    torch.set_num_threads(1)
    import_everything()
    for line in sys.stdin:
        print(json.dumps([fork(folder, job, Path(folder).with_suffix(".log")) for job in json.loads(line)]), flush=True)
