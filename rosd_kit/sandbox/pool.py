"""A pool of worker processes that call a function with untrusted input, each call confined and with a deadline."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rosd_kit.errors import RunError
from rosd_kit.sandbox import frames
from rosd_kit.sandbox.answers import read_answer

#: The error on machines without Landlock or seccomp.
CANNOT_CONFINE = (
    "this machine cannot confine a program, so no program is run: {reason}. The sandbox needs Linux 5.13 or newer "
    "with Landlock and seccomp, on x86_64 or aarch64; a container's profile must allow both."
)
_CHILD = Path(__file__).with_name("child.py")
#: Seconds that a new process may take to import its function.
_START_DEADLINE = 120.0
#: Seconds that a worker may take beyond the deadline, at which it kills the call itself; then the worker is killed.
_GRACE = 5.0
#: What a worker sees of the environment: enough to find its modules, and no secrets.
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "VIRTUAL_ENV")

Confinement = Literal["required", "if_possible", "none"]


@dataclass(frozen=True)
class Outcome:
    """The result of one call. `status` is `ok`, `timeout`, `crash` (the process ended) or `error` (the function raised)."""

    status: Literal["ok", "timeout", "crash", "error"]
    value: object = None
    detail: str = ""


class WorkerPool:
    """Calls a function, given as `module:function`, in `workers` processes; safe to use from several threads.

    Values go in pickled and come back as JSON, at most 1 MiB. Each call runs in a fork of a process that has imported the
    function already, so calls are fast and none can affect another. `deadline` is in seconds per call; `memory_mib` is the
    address space that a call may add, 0 for no limit. A confined call can read only Python's own files and packages, write
    nothing, and reach neither the network nor other processes. `setup` is passed to the function once, which then returns the
    function to call and the folders that it may read; `warm` are values to call it with before the first fork, for its caches.

    Processes start with the first call, and end when the pool is closed or garbage-collected or this process ends.
    """

    def __init__(
        self,
        target: str,
        *,
        workers: int,
        deadline: float,
        memory_mib: int = 0,
        confinement: Confinement = "if_possible",
        setup: object = None,
        warm: Sequence[object] = (),
    ) -> None:
        if not 0 < deadline < 1e6:  # also false for NaN
            raise ValueError(f"a deadline of {deadline} s; it must be above 0 and below a million")
        command = [sys.executable, "-P", str(_CHILD), str(memory_mib), str(deadline), confinement]
        first = pickle.dumps((target, setup, list(warm)))
        self._workers = [_Worker(command, first, deadline) for _ in range(workers)]
        self._busy = threading.Lock()
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def map(self, values: Sequence[object]) -> list[Outcome]:
        """Call the function with each value; return the outcomes in order.

        Raises `RunError` if the machine cannot confine a call although this is required.
        """
        pending: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        for item in enumerate(values):
            pending.put(item)
        outcomes: list[Outcome] = [Outcome("error")] * len(values)
        refusals: list[RunError] = []

        def work(worker: _Worker) -> None:
            with suppress(queue.Empty):
                while not refusals:
                    index, value = pending.get_nowait()
                    try:
                        outcomes[index] = worker.call(value)
                    except RunError as error:
                        refusals.append(error)
                    except Exception as error:  # a fault of this call alone
                        worker.stop()
                        outcomes[index] = Outcome("error", detail=f"{type(error).__name__}: {error}"[:400])

        with self._busy:
            threads = [threading.Thread(target=work, args=(worker,)) for worker in self._workers[1 : len(values)]]
            for thread in threads:
                thread.start()
            work(self._workers[0])
            for thread in threads:
                thread.join()
        if refusals:
            raise refusals[0]
        return outcomes

    @property
    def alive(self) -> int:
        """The number of running processes."""
        return sum(worker.alive for worker in self._workers)

    def close(self) -> None:
        """End all processes."""
        self._finalizer()


class _Worker:
    """One process, started at its first call."""

    def __init__(self, command: Sequence[str], first: bytes, deadline: float) -> None:
        self._command, self._first, self._deadline = command, first, deadline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def call(self, value: object) -> Outcome:
        """Call the function once; if the process does not answer in time, kill it and all processes that it started."""
        try:
            job = pickle.dumps(value)
        except Exception as error:
            return Outcome("error", detail=f"cannot be pickled: {type(error).__name__}: {error}"[:400])
        if not self.alive:
            ready = self._start()
            if ready != b"R":
                self.stop()
                return _not_started(ready)
        answer = self._exchange(job, self._deadline + _GRACE)
        if answer is None:
            self.stop()
            return Outcome("crash", detail="the worker ended")
        return _outcome(answer, self._deadline)

    def stop(self) -> None:
        """Kill the process and its group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._process = None

    def _start(self) -> bytes | None:
        """Start the process; return its first answer, R if it is ready."""
        self.stop()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
            env={**environment, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        return self._exchange(self._first, _START_DEADLINE)

    def _exchange(self, content: bytes, seconds: float) -> bytes | None:
        """Send one frame and return the answer; None if none arrives in time."""
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        try:
            frames.write(self._process.stdin.fileno(), content)
        except OSError:
            return None
        return frames.read(self._process.stdout.fileno(), seconds=seconds)


def _outcome(answer: bytes, deadline: float) -> Outcome:
    """Turn the answer of a worker into an outcome; what comes after its first byte may be anything."""
    kind, content = answer[:1], answer[1:]
    if kind == b"T":
        return Outcome("timeout", detail=f"after {deadline:g} s")
    if kind == b"E":
        return Outcome("error", detail=content.decode("utf-8", "replace"))
    if kind == b"V":
        try:
            return Outcome("ok", read_answer(content))
        except ValueError as error:
            return Outcome("error", detail=f"its answer cannot be read: {error}"[:400])
    return Outcome("crash", detail=content.decode("utf-8", "replace"))


def _not_started(answer: bytes | None) -> Outcome:
    """Return the outcome of a call whose worker did not start. Raises `RunError` if the machine cannot confine it."""
    reason = "no answer" if answer is None else answer[1:].decode("utf-8", "replace")
    if reason.startswith("Unconfined: "):
        raise RunError(CANNOT_CONFINE.format(reason=reason.removeprefix("Unconfined: ").partition(" (line ")[0]))
    return Outcome("crash", detail=f"the worker could not import its function: {reason}")


def _stop_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
