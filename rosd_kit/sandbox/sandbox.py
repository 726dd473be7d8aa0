"""Runs untrusted programs, each in a separate process that cannot reach files, the network or other processes.

Landlock restricts files and seccomp restricts system calls; neither needs root or containers. `jail.py` confines itself before
it starts the program; if the kernel lacks one of the two, no program is run. This module does not know verifiers.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Required, TypedDict

from rosd_kit.errors import RunError
from rosd_kit.sandbox.answers import read_answer
from rosd_kit.sandbox.pool import CANNOT_CONFINE

_JAIL = Path(__file__).with_name("jail.py")
#: Seconds that Python may take to start, in addition to the program's deadline.
_START_DEADLINE = 30.0


ProgramStatus = Literal["ok", "failed", "timeout", "flood"]


@dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """The result of a program.

    `status` is `ok`, `failed` (the program raised or exceeded a limit), `timeout` or `flood` (it printed too much). `value` is
    the called function's return value; `output` and `errors` are the texts of standard output and standard error.
    """

    status: ProgramStatus
    output: str = ""
    errors: str = ""
    value: object = None


class Job(TypedDict, total=False):
    """A program to run, and how: see `Sandbox.run`."""

    kind: Required[Literal["input", "call", "tests"]]
    program: str
    name: str
    arguments: list[object]
    tests: str


class Sandbox:
    """Runs Python programs with `deadline` seconds and `memory_mib` of address space each; safe to use from several threads.

    A program can read only Python's own files and its standard input, and write only to its standard output and error, at most
    `output_kib` each. It cannot start processes, so nothing survives its end.
    """

    def __init__(self, *, deadline: float, memory_mib: int, output_kib: int = 4096) -> None:
        if not 0 < deadline < 1e6:  # also false for NaN
            raise ValueError(f"a deadline of {deadline} s; it must be above 0 and below a million")
        self._deadline, self._memory, self._max_output = deadline, memory_mib, output_kib << 10

    def check(self) -> None:
        """Raise `RunError` if this machine cannot confine a program."""
        self.run({"kind": "input", "program": ""})

    def run(self, job: Job, stdin: str = "") -> ProgramResult:
        """Run one program to its end.

        `job` has the `program` and a `kind`: `input` runs it with `stdin`; `call` then calls its function `name`, or that
        method of its class `Solution`, with `arguments`; `tests` then runs the Python code `tests`.

        Raises `RunError` if this machine cannot confine the program.
        """
        token = secrets.token_hex(16)
        header = json.dumps({**job, "token": token, "seconds": self._deadline, "memory_mib": self._memory}).encode()
        read_fd, write_fd = os.pipe()
        try:
            process = subprocess.Popen(
                [os.path.realpath(sys.executable), "-I", "-S", "-B", str(_JAIL), str(write_fd), str(len(header))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(write_fd,),
                start_new_session=True,
                env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
                cwd="/",
            )
        except OSError as error:
            os.close(read_fd)
            raise RunError(f"the sandbox cannot be started: {error}") from error
        finally:
            os.close(write_fd)
        with os.fdopen(read_fd, "rb", buffering=0) as result:
            return self._finish(process, header + stdin.encode("utf-8", "replace"), result, token, job["kind"])

    def _finish(
        self, process: subprocess.Popen[bytes], stdin: bytes, result: IO[bytes], token: str, kind: str
    ) -> ProgramResult:
        """Wait for the process, kill what is left of it, and return its result."""
        try:
            stopped, streams = self._communicate(process, stdin, result)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        output, errors, answer = (data.decode("utf-8", "replace") for data in streams)
        if not answer.startswith("R"):
            reason = answer[1:] or errors[-400:] or stopped or "no answer"
            raise RunError(CANNOT_CONFINE.format(reason=reason))
        value: object = None
        if kind == "call":
            try:
                value, succeeded = read_answer(answer[1:].encode()), True
            except ValueError:
                succeeded = False
        else:
            succeeded = answer[1:] == token or (kind == "input" and process.returncode == 0)
        return ProgramResult(status=stopped or ("ok" if succeeded else "failed"), output=output, errors=errors, value=value)

    def _communicate(
        self, process: subprocess.Popen[bytes], stdin: bytes, result: IO[bytes]
    ) -> tuple[Literal["timeout", "flood"] | None, list[bytes]]:
        """Feed the process and read its pipes until they end or a limit is reached.

        Return the limit that was reached, if any, and the bytes of standard output, standard error and the result.
        """
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        stdin_fd = process.stdin.fileno()
        streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray(), result.fileno(): bytearray()}
        started, deadline = False, time.monotonic() + _START_DEADLINE
        unsent = memoryview(stdin)
        os.set_blocking(stdin_fd, False)
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdin, selectors.EVENT_WRITE)
            for pipe in streams:
                ready.register(pipe, selectors.EVENT_READ)
            while any(pipe in ready.get_map() for pipe in streams):
                if not started and streams[result.fileno()]:  # the process is confined and starts the program
                    started, deadline = True, time.monotonic() + self._deadline
                if time.monotonic() > deadline:
                    return "timeout", [bytes(data) for data in streams.values()]
                for key, _ in ready.select(max(0.0, min(1.0, deadline - time.monotonic()))):
                    if key.fd == stdin_fd:
                        with suppress(BlockingIOError):
                            unsent = unsent[_write(key.fd, unsent) :]
                        if not unsent:
                            ready.unregister(process.stdin)
                            process.stdin.close()
                        continue
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        ready.unregister(key.fd)
                    streams[key.fd] += data
                    if len(streams[key.fd]) > self._max_output:
                        return "flood", [bytes(data) for data in streams.values()]
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(1.0, deadline - time.monotonic()))
        return None, [bytes(data) for data in streams.values()]


def _write(pipe: int, data: memoryview) -> int:
    """Write to a pipe and return the number of bytes written; all of them if the reader has closed the pipe."""
    try:
        return os.write(pipe, data[: 1 << 16])
    except BrokenPipeError:
        return len(data)
