"""Starts trials until none is left that could be started, and says what becomes of them.

It claims a trial before it starts its process and renews the claim until the process has taken over. What it remembers
itself is nothing that matters: killed at any moment, the next sweeper goes on from the store, and trials that were running
run on. Knows launchers and the store; of a trial it knows the exit code.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from types import FrameType
from typing import Literal

from rosd_kit.sweep import worker
from rosd_kit.sweep.launchers import Command, Handle, Launcher
from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.store import Store

LEASE = 60.0
_MOST_DEATHS = 3
_GLANCE = 0.1
_FOLDERS = {"results": ("checkpoints", "model"), "model": ("checkpoints",), "all": ()}

Keep = Literal["results", "model", "all"]


@dataclass(kw_only=True)
class _Job:
    id: str
    token: str
    slot: int
    handle: Handle
    renewed: float


@dataclass(kw_only=True)
class Sweeper:
    """One process that works through the trials `ids` of a folder, `jobs` at a time; several may share the folder.

    `keep` says what stays of a finished trial's folder besides its records; `say` is told every event in one line.
    """

    folder: Path
    ids: Sequence[str]
    launcher: Launcher
    jobs: int
    threads: int
    gpu: bool = True
    keep: Keep = "model"
    lease: float = LEASE
    say: Callable[[str], None] = print
    _jobs: list[_Job] = field(default_factory=list)
    _deaths: Counter[str] = field(default_factory=Counter)
    _later: dict[str, float] = field(default_factory=dict)
    _interrupts: int = 0

    def run(self) -> bool:
        """Work until nothing is left to do here; returns whether every trial is finished or has failed.

        The first interrupt asks this sweeper's trials to save and stop and waits for them; the second waits no longer.
        """
        with Store(self.folder) as store, self._interruptible():
            asked = False
            while True:
                self._reap(store)
                if self._interrupts and not asked:
                    asked = True
                    self._ask_to_stop(store)
                if self._interrupts > 1:
                    break
                if not self._interrupts:
                    self._start(store)
                if not self._jobs and (self._interrupts or not self._left(store)):
                    break
                self._renew(store)
                time.sleep(_GLANCE if self._jobs else 10 * _GLANCE)
            self._tidy(store)
            return not self._left(store)

    def _start(self, store: Store) -> None:
        while len(self._jobs) < self.jobs:
            now = time.monotonic()
            free = [id for id in self.ids if self._later.get(id, 0.0) <= now]
            owner = Owner.me()
            row = store.claim(free, owner, self.lease)
            if row is None:
                return
            slot = next(slot for slot in range(self.jobs) if slot not in {job.slot for job in self._jobs})
            folder = self.folder.resolve()
            task = Command(
                command=(sys.executable, "-m", "rosd_kit.sweep.worker", str(folder), row.id, owner.token, str(self.lease)),
                log=folder / worker.LOGS / f"{row.id}.log",
                cwd=Path.cwd(),
                threads=self.threads,
                gpu=self.gpu,
            )
            try:
                handle = self.launcher.launch(task, slot)
            except BaseException:
                store.release(row.id, owner.token)
                raise
            self._jobs.append(_Job(id=row.id, token=owner.token, slot=slot, handle=handle, renewed=now))

    def _renew(self, store: Store) -> None:
        """Hold on to trials whose process has not begun yet; afterwards the process does so itself."""
        now = time.monotonic()
        for job in self._jobs:
            if now - job.renewed > self.lease / 4:
                job.renewed = now
                row = store.rows([job.id])[job.id]
                if row.owner is not None and row.owner.pid == Owner.me().pid:
                    store.renew(job.id, job.token, self.lease)

    def _reap(self, store: Store) -> None:
        for job in list(self._jobs):
            code = job.handle.poll()
            if code is not None:
                self._jobs.remove(job)
                self._settle(store, job, code)

    def _settle(self, store: Store, job: _Job, code: int) -> None:
        """Say what became of a trial; a process that died without a word leaves it to be tried again, but not for ever."""
        if code == worker.ELSEWHERE:
            self._later[job.id] = time.monotonic() + self.lease
        elif code not in (worker.DONE, worker.FAILED, worker.STOPPED):
            self._deaths[job.id] += 1
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            if self._deaths[job.id] >= _MOST_DEATHS:
                log = self.folder / worker.LOGS / f"{job.id}.log"
                store.fail(job.id, job.token, f"its process ended {_MOST_DEATHS} times, at last by {how}; see {log}")
            else:
                self.say(f"trial {job.id}: its process ended by {how}; it goes on from its checkpoint")
        store.release(job.id, job.token)
        if store.states([job.id])[job.id] in ("finished", "failed"):
            self._tell(store, job.id)
        self._tidy(store)

    def _tell(self, store: Store, id: str) -> None:
        row, states = store.rows([id])[id], Counter(store.states(self.ids).values())
        why = f": {row.error}" if row.error else ""
        self.say(f"[{states['finished'] + states['failed']}/{states.total()}] trial {id} {row.state}{why}")

    def _left(self, store: Store) -> bool:
        return any(state in ("waiting", "running") for state in store.states(self.ids).values())

    def _ask_to_stop(self, store: Store) -> None:
        self.say("stopping: the running trials save after their step; interrupt again to leave without waiting for them")
        for job in self._jobs:
            store.stop(job.id, job.token)

    def _tidy(self, store: Store) -> None:
        """Remove what is not kept of finished trials."""
        for id, state in store.states(self.ids).items():
            for name in _FOLDERS[self.keep] if state == "finished" else ():
                rmtree(self.folder / worker.TRIALS / id / name, ignore_errors=True)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def heard(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1

        earlier = []
        with suppress(ValueError):  # not in the main thread: somebody else handles signals
            earlier = [(number, signal.signal(number, heard)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            yield
        finally:
            for number, handler in earlier:
                signal.signal(number, handler)
