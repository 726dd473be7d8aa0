"""A folder for passing files that goes with the process which made it, at the latest when another run begins."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from rosd_kit.files import lock_file

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
        self._lock: IO[str] | None = None

    def open(self) -> Path:
        """Make and lock the folder, once; return it."""
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / _LOCK).touch(mode=0o600)  # the folder may lie where other users could take its lock
            self._lock = lock_file(self.path / _LOCK, required=True)
            for neighbour in self.path.parent.glob(f"{PREFIX}*/{_LOCK}"):
                _remove_if_abandoned(neighbour)
        return self.path

    def close(self) -> None:
        """Remove the folder."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()
            self._lock = None


def _remove_if_abandoned(lock: Path) -> None:
    with suppress(OSError), lock_file(lock, required=True):
        shutil.rmtree(lock.parent, ignore_errors=True)
