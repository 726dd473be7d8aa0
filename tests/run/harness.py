"""Forks a child for each job, which runs the command line and may kill itself at its n-th file operation.

Usage: python harness.py RUNS; it reads a list of jobs a line and answers with a list of results.
A job is {"args": [...], "kill_at": operation, "within": folder, "kill_in_step": step, "kill_after": seconds,
"largest": bytes of a file, "cwd": folder, "environment": {name: value or null}, "interrupts": {step: how many},
"clock": seconds that each look at the clock sets it back, "terminal": device, "shell": command to run before,
"fill": {"step": step, "file": path, "leave": bytes}}, some of it or all. With "within", only operations on paths below
that folder are counted; "fill" fills the disk at the end of a step, before anything of that step is written.
Forking after all imports makes a job as quick as the run itself.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

import rosd_kit.run.folder
import rosd_kit.run.loop
from rosd_kit.cli import main
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.settings import ModelSettings, OptimizerSettings
from rosd_kit.training import checkpoint_writer
from rosd_kit.training.optimizer import Optimizer

WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


class Killer:
    """Counts what is done to files below a folder; every write also counts once when half of it is done.

    With `all_removals`, those that are known by their last name only are counted wherever they are.
    """

    def __init__(self, folder: str, at: int, *, all_removals: bool) -> None:
        self.folder, self.at, self.count, self.all_removals = folder, at, 0, all_removals
        sys.addaudithook(self._audit)
        self._save, self._append, self._write_text = checkpoint_writer.save_file, rosd_kit.run.folder._append, Path.write_text
        checkpoint_writer.save_file = self._half_save
        rosd_kit.run.folder._append = self._half_append
        Path.write_text = lambda *args, **options: self._half_write_text(*args, **options)  # type: ignore[method-assign]

    def operation(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in WATCHED and (
            str(args[0]).startswith(self.folder) or (self.all_removals and event in ("os.remove", "os.rmdir"))
        ):
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
    output = os.open(job["terminal"], os.O_RDWR) if job.get("terminal") else os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if job.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
    surround(job)
    if job.get("kill_in_step"):
        kill_in_step(job["kill_in_step"])
    if job.get("kill_after"):
        threading.Thread(target=kill_after, args=(job["kill_after"],), daemon=True).start()
    killer = Killer(job.get("within", runs), job.get("kill_at", 0), all_removals="within" not in job)
    code: Any = 1
    try:
        main(job["args"])
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        print(f"\noperations: {killer.count}", flush=True)
        os._exit(code)


def surround(job: dict[str, Any]) -> None:
    """Make the surroundings that a job asks for."""
    os.chdir(job.get("cwd", "."))
    for name, value in job.get("environment", {}).items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if job.get("clock"):
        times = itertools.count()
        time.time = lambda: 1e9 - job["clock"] * next(times)
    if job.get("interrupts") or job.get("fill"):
        at_the_end_of_steps(job.get("interrupts", {}), job.get("fill", {"step": 0}))


def at_the_end_of_steps(interrupts: dict[str, int], fill: dict[str, Any]) -> None:
    """Interrupt this process, or fill the disk, when a step has been trained and nothing of it is written."""
    loop: Any = rosd_kit.run.loop
    train_step, update, steps = loop.train_step, loop.update, [0]

    def counted(run: Any) -> None:
        steps[0] = run.step + 1
        train_step(run)

    def updated(*samples: Any, **options: Any) -> Any:
        found = update(*samples, **options)
        for _ in range(interrupts.get(str(steps[0]), 0)):
            os.kill(os.getpid(), signal.SIGINT)
        if fill["step"] == steps[0]:
            fill_disk(Path(fill["file"]), fill["leave"])
        return found

    loop.train_step, loop.update = counted, updated


def fill_disk(file: Path, leave: int) -> None:
    """Write until nothing but `leave` bytes fits any more."""
    size = 0
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while size < 1 << 30:
            size += stream.write(bytes(1 << 12))
    os.truncate(file, max(0, size - leave))


def kill_in_step(step: int) -> None:
    """Kill the process between the end of a step and its checkpoint."""
    loop: Any = rosd_kit.run.loop
    save = loop.save

    def killing(run: Any) -> None:
        if run.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        save(run)

    loop.save = killing


def kill_after(seconds: float) -> None:
    """Kill the process at a moment, whatever it does then."""
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def import_everything() -> None:
    """Import what a run imports on its way; no gradient is taken, after which torch could not be forked."""
    registry = PluginManager().registry
    components = build_components(load_recipe("rosd", registry=registry), registry)
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    components.rollout.start(student)
    for parameter in student.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(student.model, OptimizerSettings(), steps=1).step(0.0)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the whole heap


def fork(runs: str, job: dict[str, Any], log: Path) -> dict[str, Any]:
    log.unlink(missing_ok=True)
    if job.get("shell"):
        subprocess.run(job["shell"], shell=True, check=True)
    child = os.fork()
    if child == 0:
        work(runs, job, log)
    began = time.monotonic()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - began
    output = log.read_text(errors="replace") if log.is_file() else ""
    return {"code": os.waitstatus_to_exitcode(status), "output": output, "seconds": seconds}


if __name__ == "__main__":
    folder = sys.argv[1]
    torch.set_num_threads(1)
    import_everything()
    for line in sys.stdin:
        print(json.dumps([fork(folder, job, Path(folder).with_suffix(".log")) for job in json.loads(line)]), flush=True)
