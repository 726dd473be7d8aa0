"""A locked scratch folder that is removed with its process, or by a later run if the process was killed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from rosd_kit.files import lock_file

#: Prefix of the names of all scratch folders.
PREFIX = "rosd-kit-"
_LOCK = "held"


class ScratchFolder:
    """A folder that belongs to this process alone and stays locked while the process lives.

    Opening one removes abandoned scratch folders beside it: those whose lock nobody holds. A killed process cannot clean up,
    and what it leaves in a memory-backed folder occupies memory until the machine restarts.
    """

    def __init__(self, path: Path) -> None:
        assert path.name.startswith(PREFIX)
        self.path = path
        self._lock: IO[str] | None = None

    def open(self) -> Path:
        """Create and lock the folder unless that is done already; return its path."""
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / _LOCK).touch(mode=0o600)  # in a shared folder, other users must not be able to take its lock
            self._lock = lock_file(self.path / _LOCK, required=True)
            for lock in self.path.parent.glob(f"{PREFIX}*/{_LOCK}"):
                _remove_if_abandoned(lock)
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
