"""Which process works on a trial, and whether it still lives. Knows nothing of trials.

On the same machine a dead process is recognised at once by its number and birth; elsewhere, and where the system does not
tell, only by a lease that ran out.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process: a token that no other has, the place where its number means something, its number and its birth."""

    token: str
    place: str
    pid: int
    born: str

    @classmethod
    def me(cls, token: str | None = None) -> Owner:
        """Return this process, with a new token unless one was handed over."""
        return cls(token=token or uuid.uuid4().hex, place=_place(), pid=os.getpid(), born=_born(os.getpid()))

    def is_dead(self) -> bool:
        """Return whether the process certainly lives no more."""
        return bool(self.place) and self.place == _place() and self.born != _born(self.pid)

    def is_alive(self) -> bool:
        """Return whether the process certainly lives."""
        return bool(self.place) and self.place == _place() and self.born == _born(self.pid)


@cache
def _place() -> str:
    """Return a name for this start of this machine and its numbering of processes; empty where the system tells neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when a process started, in ticks since the machine did; empty for none, or one that only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
