"""Identifies the process that holds a trial, and checks whether it is still running. Does not know trials.

On the same machine, a dead process is recognised at once by its process id and start time. On another machine, or where the
system does not report them, only an expired lease shows it.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rosd_kit.types import JsonObject


@dataclass(frozen=True, kw_only=True)
class LeaseHolder:
    """A process that holds a trial: a unique token, the host, and its process id and start time on that host."""

    token: str
    host: str
    pid: int
    started: str

    @classmethod
    def this_process(cls, token: str | None = None) -> LeaseHolder:
        """Return this process as a holder, with the token it was started with, or a new one."""
        return cls(token=token or uuid.uuid4().hex, host=_host(), pid=os.getpid(), started=_start_time(os.getpid()))

    @classmethod
    def from_json(cls, value: JsonObject) -> LeaseHolder:
        """Return the holder that `to_json` wrote."""
        return cls(token=value["token"], host=value["place"], pid=value["pid"], started=value["born"])

    def to_json(self) -> JsonObject:
        """Return the holder under the keys that stores on disk use."""
        return {"token": self.token, "place": self.host, "pid": self.pid, "born": self.started}

    def is_dead(self) -> bool:
        """Return whether the process is certainly dead."""
        return bool(self.host) and self.host == _host() and self.started != _start_time(self.pid)

    def is_alive(self) -> bool:
        """Return whether the process is certainly alive."""
        return bool(self.host) and self.host == _host() and self.started == _start_time(self.pid)


@cache
def _host() -> str:
    """Return an id of this boot of this machine and its process namespace; empty where the system reports neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
