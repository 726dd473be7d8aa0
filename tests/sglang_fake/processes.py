"""Starts processes of the fake SGLang in `launchable/`, and reports which still run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Start:
    """One start of a server, as recorded by the process itself."""

    pid: int
    child: int
    devices: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class FakeSGLang:
    """An environment in which `python -m sglang.launch_server` starts the fake, optionally with faults."""

    record: Path

    def environment(self, *faults: str) -> dict[str, str]:
        path = os.pathsep.join([str(HERE / "launchable"), str(HERE.parents[1])])
        return {"PYTHONPATH": path, "FAKE_STARTS": str(self.record), "FAKE_FAULTS": " ".join(faults)}

    def starts(self) -> list[Start]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        fields = [line.split() for line in lines]
        return [Start(int(pid), int(child), devices, tuple(arguments)) for pid, child, devices, *arguments in fields]

    def running(self) -> list[int]:
        """Return the ids of processes that still run: servers and their children."""
        return [pid for start in self.starts() for pid in (start.pid, start.child) if _is_running(pid)]


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
