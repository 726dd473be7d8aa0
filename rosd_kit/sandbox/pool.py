"""A fixed number of worker processes, each of which is killed at its deadline and replaced."""

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
from typing import Any

_CHILD = Path(__file__).with_name("child.py")
#: Seconds that a new process may take to import its function.
_STARTING = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of one call. `status` is `ok`, `timeout`, `crash` (the process ended) or `error` (it raised)."""

    status: str
    value: Any = None
    detail: str = ""


class WorkerPool:
    """Calls a function, named `module:function`, with JSON values in `workers` processes.

    `deadline` is in seconds a call; `memory_mib` bounds the address space of each process, 0 for no bound. Processes start
    with the first call and end when the pool is closed or forgotten, or this process ends.
    """

    def __init__(self, target: str, *, workers: int, deadline: float, memory_mib: int = 0) -> None:
        self._workers = [_Worker(target, deadline, memory_mib) for _ in range(workers)]
        self._busy = threading.Lock()
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def map(self, values: Sequence[Any]) -> list[Outcome]:
        """Call the function with each value; return the outcomes in order. Safe to call from several threads."""
        due: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for item in enumerate(values):
            due.put(item)
        found: list[Outcome] = [Outcome("error")] * len(values)

        def work(worker: _Worker) -> None:
            with suppress(queue.Empty):
                while True:
                    place, value = due.get_nowait()
                    found[place] = worker.call(value)

        with self._busy:
            threads = [threading.Thread(target=work, args=(worker,)) for worker in self._workers[: len(values)]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return found

    @property
    def alive(self) -> int:
        """How many processes run."""
        return sum(worker.alive for worker in self._workers)

    def close(self) -> None:
        """End all processes."""
        self._finalizer()


class _Worker:
    """One process, started when it is needed."""

    def __init__(self, target: str, deadline: float, memory_mib: int) -> None:
        self._command = [sys.executable, str(_CHILD), target, str(memory_mib), str(deadline)]
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def call(self, value: Any) -> Outcome:
        """Call the function once; a process that does not answer in time is killed with all that it started."""
        if not self.alive:
            self._start()
            ready = self._answer(_STARTING)
            if ready is None or "ready" not in ready:
                self.stop()
                return Outcome("crash", detail="the worker could not import its function")
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.stop()
            return Outcome("crash", detail="the process had ended")
        began = time.monotonic()
        answer = self._answer(self._deadline)
        if answer is None:
            late = time.monotonic() - began >= self._deadline
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
        self._read = b""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line as JSON; None when none comes in time, or what comes is none."""
        assert self._process is not None and self._process.stdout is not None
        deadline, pipe = time.monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            some = os.read(pipe, 1 << 16) if ready else b""
            if not some:
                return None
            self._read += some
        line, _, self._read = self._read.partition(b"\n")
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return None
        return found


def _stop_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
