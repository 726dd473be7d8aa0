"""The program of a worker process: imports a function once, then has forks of itself answer the calls.

Usage: child.py MEMORY_MIB DEADLINE CONFINEMENT. Frames come in through standard input, pickled: first (target, setup, warm),
then one value per call; the answers are frames too. The worker itself never looks at what a call does: its fork does the
work, confined. If a call runs code, imports, or touches anything outside (see `inner.py`), it is the fork's last, so that
nothing that one call does can reach the next.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import resource
import select
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from rosd_kit.sandbox import frames, inner, landlock

#: Calls that one fork answers at most; this bounds what its caches hold.
_MOST_CALLS = 1000
#: Seconds for the trial of the confinement; a short deadline of calls must not look like a machine that cannot confine.
_TRIAL_SECONDS = 30.0
_ENDED = b"Cthe process ended"


class Unconfined(Exception):
    """This machine cannot confine a call."""


@dataclass
class Fork:
    """A process that answers calls."""

    pid: int
    jobs: int
    answers: int
    calls: int = 0

    def end(self) -> None:
        """Kill the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.jobs)
        os.close(self.answers)


class Worker:
    """Answers the calls of a parent process."""

    def __init__(self, memory_mib: int, deadline: float, confinement: str) -> None:
        self._memory_mib, self._deadline, self._confinement = memory_mib, deadline, confinement
        self._parent = os.getppid()
        self._answers = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        self._function: Callable[[object], object] = lambda value: None
        self._prepare: Callable[[object], object] = lambda value: None
        self._ruleset: int | None = None
        self._fork: Fork | None = None

    def serve(self) -> None:
        """Answer calls until the input or the parent ends."""
        try:
            self._load(*pickle.loads(self._next_frame()))
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"E{type(error).__name__}: {error} (line {where.lineno} of {where.filename})"
            frames.write(self._answers, text.encode("utf-8", "replace"))
            os._exit(1)
        gc.collect()
        gc.freeze()  # a collection in a fork would copy the whole heap
        frames.write(self._answers, b"R")
        while True:
            frame = self._next_frame()
            try:
                self._prepare(pickle.loads(frame))
                answer = self._call(frame, self._deadline)
            except Exception as error:
                answer = f"E{type(error).__name__}: {error}"[:400].encode("utf-8", "replace")
            frames.write(self._answers, answer)

    def _load(self, target: str, setup: object, warm: list[object]) -> None:
        """Import the function, try the confinement, and warm the function's caches."""
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        folders = [*getattr(sys.modules[module.partition(".")[0]], "__path__", ())]
        if setup is not None:
            function, more = function(setup)
            folders += more
        if self._confinement != "none":
            self._check_confinement(folders)
        self._function, self._prepare = function, getattr(function, "prepare", self._prepare)
        for value in warm:
            function(value)

    def _check_confinement(self, folders: list[str]) -> None:
        """Prepare the confinement and try it once; go without if it is not required and the machine cannot."""
        folders += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        folders += [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
        folders += [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
        try:
            self._ruleset = landlock.readable_files(folders)
            answer = self._call(pickle.dumps(None), _TRIAL_SECONDS).decode("utf-8", "replace")
        except OSError as error:
            answer = f"E{error}"
        self._end_fork()
        if answer != "Vnull":
            self._ruleset = None
            if self._confinement == "required":
                raise Unconfined(answer[1:])

    def _call(self, frame: bytes, deadline: float) -> bytes:
        """Return a call's answer: V and its value as JSON, E and an error, T for a timeout, C and why the process ended."""
        if self._fork is not None and select.select([self._fork.answers], [], [], 0)[0]:
            self._end_fork()  # it has ended, or written what nobody asked for
        fork = self._fork = self._fork or self._new_fork()
        fork.calls += 1
        try:
            frames.write(fork.jobs, frame)
            answer, is_clean = self._await(fork, deadline)
        except BrokenPipeError:
            answer, is_clean = _ENDED, False
        if not is_clean or fork.calls >= _MOST_CALLS:
            self._end_fork()
        if answer == _ENDED and fork.calls > 1:  # an earlier call may have been the cause
            return self._call(frame, deadline)
        return answer

    def _await(self, fork: Fork, deadline: float) -> tuple[bytes, bool]:
        """Return the answer of a fork, and whether it may answer another call."""
        end, is_clean, received = time.monotonic() + deadline, True, b""
        while (wait := end - time.monotonic()) > 0:
            ready = select.select([fork.answers, 0], [], [], min(1.0, wait))[0]
            if 0 in ready or os.getppid() != self._parent:  # a parent that waits sends nothing; it has ended
                fork.end()
                os._exit(0)
            if fork.answers not in ready:
                continue
            data = os.read(fork.answers, 1 << 16)
            if not data:
                return _ENDED, False
            received += data
            if received[:1] == inner.USED:
                is_clean, received = False, received[1:]
            content = frames.content(received)
            if content is not None:
                kept = is_clean and content[:1] == b"V"
                return (content, kept) if content[:1] in (b"V", b"E") else (b"Can answer of no known kind", False)
            if len(received) > inner.MAX_ANSWER + frames.HEADER:
                return f"Cits answer is longer than {inner.MAX_ANSWER} bytes".encode(), False
        return b"T", False

    def _new_fork(self) -> Fork:
        limit = _address_space() + (self._memory_mib << 20) if self._memory_mib else 0
        jobs_in, jobs_out = os.pipe()
        answers_in, answers_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                inner.confine(jobs_in, answers_out, self._ruleset, limit)
                inner.answer_calls(self._function, self._memory_mib)
            finally:
                os._exit(1)
        os.close(jobs_in)
        os.close(answers_out)
        return Fork(pid, jobs_out, answers_in)

    def _end_fork(self) -> None:
        if self._fork is not None:
            self._fork.end()
            self._fork = None

    def _next_frame(self) -> bytes:
        frame = frames.read(0, lambda: os.getppid() == self._parent)
        if frame is None:
            self._end_fork()
            os._exit(0)
        return frame


def _address_space() -> int:
    """Return the size of this process's address space in bytes."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


if __name__ == "__main__":
    Worker(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]).serve()
