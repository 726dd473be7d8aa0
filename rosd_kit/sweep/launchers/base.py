"""What a launcher is asked and answers. It knows commands; it knows no trial and no store."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command to run in a folder: what it prints goes to `log`; it wants so many threads, and a GPU where there are any."""

    command: tuple[str, ...]
    log: Path
    cwd: Path
    threads: int
    gpu: bool


class Handle(ABC):
    """A command that was started."""

    @abstractmethod
    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the command has not ended."""


class Launcher(ABC):
    """Starts commands. `jobs` is how many run at once unless the user says otherwise."""

    jobs: int = 1

    @abstractmethod
    def launch(self, task: Command, slot: int) -> Handle:
        """Start a command in one of `jobs` places and return at once."""

    def close(self) -> None:  # noqa: B027 (most launchers hold nothing)
        """Let go of what the launcher holds; commands that still run are left alone."""


def refuse_options(name: str, options: Mapping[str, str]) -> None:
    """Raise `RunError` when a launcher that takes no options got some."""
    if options:
        raise RunError(f"--launcher-option: launcher {name!r} takes none, and {', '.join(options)} was given")


def environment(threads: int) -> dict[str, str]:
    """Return this process's environment for a command with so many threads."""
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}


def start(task: Command, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that a terminal's interrupt reaches its sweeper alone."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        return subprocess.Popen(
            task.command,
            cwd=task.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment(task.threads), **(extra or {})},
            start_new_session=True,
        )


def run_to_its_end(command: Sequence[str], log: str, cwd: str, threads: int) -> int:
    """Run a command where a cluster has put this call, and return its exit code; an interrupt is handed on to it."""
    process = start(Command(command=tuple(command), log=Path(log), cwd=Path(cwd), threads=threads, gpu=False))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        return process.wait()
