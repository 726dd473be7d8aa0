"""Runs programs that nobody has read: each in a process of its own that cannot reach files, the network or other processes.

The walls are Landlock (files) and seccomp (system calls), which need neither root nor containers; `jail.py` puts them up around
itself before the program begins. Where the kernel lacks one of them nothing is run. Knows nothing of verifiers.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rosd_kit.errors import RunError

_JAIL = Path(__file__).with_name("jail.py")
#: Seconds that Python may take to begin, on top of the program's own.
_STARTING = 30.0


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of a program. `status` is `ok`, `failed` (it raised, or was stopped for its limits), `timeout` or `flood`.

    `result` is what the called function returned, `output` and `errors` what was printed.
    """

    status: str
    output: str = ""
    errors: str = ""
    result: Any = None


class Sandbox:
    """Runs Python programs with `deadline` seconds and `memory_mib` of address space each; safe to use from several threads.

    A program reads Python's own files, its standard input and nothing else; it writes to its standard output and nothing else,
    at most `output_kib`. It cannot start processes, so that its end is the end of all that it did.
    """

    def __init__(self, *, deadline: float, memory_mib: int, output_kib: int = 4096) -> None:
        self._deadline, self._memory, self._most = deadline, memory_mib, output_kib << 10

    def check(self) -> None:
        """Raise `RunError` where this machine cannot confine a program."""
        self.run({"kind": "input", "program": ""})

    def run(self, job: Mapping[str, Any], given: str = "") -> Ran:
        """Run one program to its end.

        `job` holds `program` and a `kind`: `input` (it reads `given`), `call` (the function `name`, or the method of
        `Solution`, with `arguments`), `tests` (Python `tests` after it). Raises `RunError` where the walls cannot be put up.
        """
        token = secrets.token_hex(16)
        whole = {**job, "token": token, "seconds": self._deadline, "memory_mib": self._memory}
        head = json.dumps(whole).encode()
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                [os.path.realpath(sys.executable), "-I", "-S", "-B", str(_JAIL), str(writing), str(len(head))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(writing,),
                start_new_session=True,
                env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
                cwd="/",
            )
        except OSError as error:
            os.close(reading)
            raise RunError(f"the sandbox cannot be started: {error}") from error
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as result:
            return self._finish(process, head + given.encode("utf-8", "replace"), result, token, job["kind"])

    def _finish(self, process: subprocess.Popen[bytes], given: bytes, result: IO[bytes], token: str, kind: str) -> Ran:
        try:
            stopped, read = self._attend(process, given, result)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        output, errors, told = (part.decode("utf-8", "replace") for part in read)
        if not told.startswith("R"):
            why = told[1:] or errors[-400:] or stopped or "no answer"
            raise RunError(
                f"the sandbox cannot be closed on this machine, so no program is run: {why}. It needs Linux 5.13 or newer with "
                "Landlock and seccomp, on x86_64 or aarch64; a container's profile must allow both."
            )
        returned: Any = None
        if kind == "call":
            with suppress(ValueError):
                returned = {"value": json.loads(told[1:])}
        done = returned is not None if kind == "call" else told[1:] == token or (kind == "input" and process.returncode == 0)
        value = returned["value"] if returned else None
        return Ran(status=stopped or ("ok" if done else "failed"), output=output, errors=errors, result=value)

    def _attend(self, process: subprocess.Popen[bytes], given: bytes, result: IO[bytes]) -> tuple[str, list[bytes]]:
        """Feed the process and read its pipes until they end; return why it must be stopped, if so, and what was read."""
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        giving = process.stdin.fileno()
        read = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray(), result.fileno(): bytearray()}
        begun, until = False, time.monotonic() + _STARTING
        left = memoryview(given)
        os.set_blocking(giving, False)
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdin, selectors.EVENT_WRITE)
            for pipe in read:
                ready.register(pipe, selectors.EVENT_READ)
            while any(pipe in ready.get_map() for pipe in read):
                if not begun and read[result.fileno()]:
                    begun, until = True, time.monotonic() + self._deadline
                if time.monotonic() > until:
                    return "timeout", [bytes(part) for part in read.values()]
                for key, _ in ready.select(max(0.0, min(1.0, until - time.monotonic()))):
                    if key.fd == giving:
                        with suppress(BlockingIOError):
                            left = left[_written(key.fd, left) :]
                        if not left:
                            ready.unregister(process.stdin)
                            process.stdin.close()
                        continue
                    some = os.read(key.fd, 1 << 16)
                    if not some:
                        ready.unregister(key.fd)
                    read[key.fd] += some
                    if len(read[key.fd]) > self._most:
                        return "flood", [bytes(part) for part in read.values()]
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(1.0, until - time.monotonic()))
        return "", [bytes(part) for part in read.values()]


def _written(pipe: int, data: memoryview) -> int:
    """Return how much of the data a pipe took; all of it where nobody reads any more."""
    try:
        return os.write(pipe, data[: 1 << 16])
    except BrokenPipeError:
        return len(data)
