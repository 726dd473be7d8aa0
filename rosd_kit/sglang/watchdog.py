"""Holds one server process and makes sure that it ends. Run as a program of its own: guard.py COMMAND ...

The run keeps the other end of this program's standard input open and never writes to it. When the run is gone, by
whatever way, even killed, the input ends, and the server and all that it started is stopped. Only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

#: Seconds that a server has to end by itself.
GRACE = 10.0


def main(command: list[str]) -> int:
    """Run the command until it ends or the run does; return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while server.poll() is None:
            ready, _, _ = select.select([0], [], [], 0.2)
            if ready and not os.read(0, 1):
                break
    finally:
        _stop(server)
    return server.returncode


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, which then ends its own processes; kill whatever is left of its group."""
    server.terminate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGCONT)  # a stopped process hears nothing
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
