"""Runs one server and stops it when the run is gone. A program by itself: watchdog.py COMMAND ...

The run holds the other end of this program's standard input open and never writes to it. When the run ends, even if it is
killed, the input closes, and the watchdog stops the server and its child processes. Uses the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

#: Seconds that a server has to exit by itself.
GRACE = 10.0


def main(command: list[str]) -> int:
    """Run the command until it or the run ends; return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while server.poll() is None:
            readable, _, _ = select.select([0], [], [], 0.2)
            if readable and not os.read(0, 1):
                break
    finally:
        _stop(server)
    return server.returncode


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to exit, which ends its child processes too; kill what is left of its process group."""
    server.terminate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGCONT)  # a stopped process does not receive SIGTERM
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
