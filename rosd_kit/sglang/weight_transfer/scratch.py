"""A folder for passing files that goes with the process which made it, at the latest when another run begins."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

#: What all such folders' names begin with.
PREFIX = "rosd-kit-"
_LOCK = "held"


class Scratch:
    """A folder of this process's own, locked while it lives.

    Opening one removes its abandoned neighbours: folders of that kind whose lock nobody holds. A killed process cannot tidy
    up, and what it leaves in a memory-backed folder takes memory until the machine is restarted.
    """

    def __init__(self, path: Path) -> None:
        assert path.name.startswith(PREFIX)
        self.path = path
        self._lock: int | None = None

    def open(self) -> Path:
        """Make and lock the folder, once; return it."""
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for neighbour in self.path.parent.glob(f"{PREFIX}*/{_LOCK}"):
                _remove_if_abandoned(neighbour)
        return self.path

    def close(self) -> None:
        """Remove the folder."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _remove_if_abandoned(lock: Path) -> None:
    with suppress(OSError):
        held = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(held)
