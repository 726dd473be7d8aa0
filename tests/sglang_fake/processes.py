"""Processes of the fake SGLang in `launchable/`: how to start them, and whether they are still there."""

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
    """One start of a server: what the process itself said."""

    pid: int
    child: int
    devices: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Launchable:
    """An environment in which `python -m sglang.launch_server` starts the fake, with its faults."""

    record: Path

    def environment(self, *faults: str) -> dict[str, str]:
        path = os.pathsep.join([str(HERE / "launchable"), str(HERE.parents[1])])
        return {"PYTHONPATH": path, "FAKE_STARTS": str(self.record), "FAKE_FAULTS": " ".join(faults)}

    def starts(self) -> list[Start]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        parts = [line.split() for line in lines]
        return [Start(int(pid), int(child), devices, tuple(words)) for pid, child, devices, *words in parts]

    def left(self) -> list[int]:
        """Return the processes that still run: servers and their children."""
        return [pid for start in self.starts() for pid in (start.pid, start.child) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def soon(condition: Callable[[], object], seconds: float = 15.0) -> bool:
    """Wait until something holds, and return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
