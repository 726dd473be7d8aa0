"""The interface of launchers and what they share. Knows commands; does not know trials or the store."""

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
    """A command to run in `cwd`. Its output goes to `log`; it uses `threads` threads, and a GPU if there is one."""

    argv: tuple[str, ...]
    log: Path
    cwd: Path
    threads: int
    gpu: bool


class Handle(ABC):
    """A command that was started."""

    @abstractmethod
    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the command is running."""


class Launcher(ABC):
    """Starts commands. `jobs` is how many run at once by default."""

    jobs: int = 1

    @abstractmethod
    def launch(self, command: Command, slot: int) -> Handle:
        """Start a command in one of the `jobs` slots, without waiting for it."""

    def close(self) -> None:  # noqa: B027 (most launchers hold nothing)
        """Release the launcher's resources. Commands that still run keep running."""


def refuse_options(name: str, options: Mapping[str, str]) -> None:
    """Raise `RunError` if a launcher that takes no options got some."""
    if options:
        raise RunError(f"--launcher-option: launcher {name!r} takes no options. Leave out {', '.join(options)}")


def environment(threads: int) -> dict[str, str]:
    """Return this process's environment with the number of threads set."""
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}


def start(command: Command, extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a new session, so that an interrupt from the terminal reaches only the scheduler."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment(command.threads), **(extra or {})},
            start_new_session=True,
        )


def run_and_wait(argv: Sequence[str], log: str, cwd: str, threads: int) -> int:
    """Run a command on the cluster node that executes this call, and return its exit code. Forwards an interrupt to it."""
    process = start(Command(argv=tuple(argv), log=Path(log), cwd=Path(cwd), threads=threads, gpu=False))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        return process.wait()
