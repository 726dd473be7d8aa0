"""A pool of worker processes; a process that exceeds its deadline is killed and replaced."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_CHILD = Path(__file__).with_name("child.py")
#: Seconds that a new process may take to import its function.
_START_DEADLINE = 120.0


@dataclass(frozen=True)
class Outcome:
    """The result of one call. `status` is `ok`, `timeout`, `crash` (the process ended) or `error` (the function raised)."""

    status: Literal["ok", "timeout", "crash", "error"]
    value: Any = None
    detail: str = ""


class WorkerPool:
    """Calls a function, given as `module:function`, with JSON values in `workers` processes.

    `deadline` is in seconds per call. `memory_mib` limits the address space of each process; 0 sets no limit. Processes start
    with the first call, and end when the pool is closed or garbage-collected or this process ends.
    """

    def __init__(self, target: str, *, workers: int, deadline: float, memory_mib: int = 0) -> None:
        self._workers = [_Worker(target, deadline, memory_mib) for _ in range(workers)]
        self._busy = threading.Lock()
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def map(self, values: Sequence[Any]) -> list[Outcome]:
        """Call the function with each value; return the outcomes in order. Safe to call from several threads."""
        pending: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for item in enumerate(values):
            pending.put(item)
        outcomes: list[Outcome] = [Outcome("error")] * len(values)

        def work(worker: _Worker) -> None:
            with suppress(queue.Empty):
                while True:
                    index, value = pending.get_nowait()
                    outcomes[index] = worker.call(value)

        with self._busy:
            threads = [threading.Thread(target=work, args=(worker,)) for worker in self._workers[: len(values)]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
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

    def __init__(self, target: str, deadline: float, memory_mib: int) -> None:
        self._command = [sys.executable, str(_CHILD), target, str(memory_mib), str(deadline)]
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def call(self, value: Any) -> Outcome:
        """Call the function once; if the process does not answer in time, kill it and all processes that it started."""
        if not self.alive:
            self._start()
            ready = self._answer(_START_DEADLINE)
            if ready is None or "ready" not in ready:
                self.stop()
                return Outcome("crash", detail="the worker could not import its function")
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.stop()
            return Outcome("crash", detail="the process has ended")
        start = time.monotonic()
        answer = self._answer(self._deadline)
        if answer is None:
            late = time.monotonic() - start >= self._deadline
            self.stop()
            return Outcome(
                "timeout" if late else "crash", detail=f"after {self._deadline:g} s" if late else "the process ended"
            )
        return Outcome("error", detail=answer["error"]) if "error" in answer else Outcome("ok", answer["value"])

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

    def _start(self) -> None:
        self.stop()
        self._buffer = b""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line as JSON; None if no line arrives in time or it is not JSON."""
        assert self._process is not None and self._process.stdout is not None
        deadline, pipe = time.monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe, 1 << 16) if ready else b""
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            return None
        return answer


def _stop_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
