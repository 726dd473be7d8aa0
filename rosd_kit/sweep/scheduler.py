"""Starts trials until none is left to start, and reports what happens to them.

The scheduler claims a trial before it starts the worker, and renews the claim until the worker has taken over. All state that
matters is in the store: after a kill at any moment, the next scheduler continues from there, and running trials keep running.
Knows launchers and the store; of a worker it only sees the exit code.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Literal

from rosd_kit.run.interrupts import interruptible
from rosd_kit.sweep import worker
from rosd_kit.sweep.launchers import Command, Handle, Launcher
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.store import Row, Store

LEASE_SECONDS = 60.0
_MAX_DEATHS = 3
_POLL_SECONDS = 0.1
_IDLE_POLL_SECONDS = 1.0
_REMOVED = {"results": ("checkpoints", "model"), "model": ("checkpoints",), "all": ()}

Keep = Literal["results", "model", "all"]


def _say_nothing(row: Row) -> str:
    return ""


def _do_nothing() -> None:
    return None


@dataclass(kw_only=True)
class _Job:
    id: str
    token: str
    slot: int
    handle: Handle
    renewed: float


@dataclass(kw_only=True)
class Scheduler:
    """Works through the trials `ids` of a folder, `jobs` at a time. Several schedulers may share the folder.

    `keep` says what stays in a finished trial's folder besides its records; `notify` is called with one line per event;
    `describe` says what a trial that has ended was and came to; `tick` is called all the time, to show progress;
    `digests` says for each trial what may run (`trial_id.trust_digests`).
    """

    folder: Path
    ids: Sequence[str]
    launcher: Launcher
    jobs: int
    threads: int
    gpu: bool = True
    keep: Keep = "model"
    lease: float = LEASE_SECONDS
    notify: Callable[[str], None] = print
    describe: Callable[[Row], str] = _say_nothing
    tick: Callable[[], None] = _do_nothing
    digests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _jobs: list[_Job] = field(default_factory=list)
    _deaths: Counter[str] = field(default_factory=Counter)
    _reached: dict[str, str] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)
    _stopping: bool = False

    def run(self) -> bool:
        """Work until nothing is left to do here. Return whether every trial is finished or has failed.

        The first interrupt asks this scheduler's trials to save and stop, and waits for them; the second stops waiting.
        """
        with Store(self.folder) as store:
            with suppress(KeyboardInterrupt), interruptible(self._stop, (signal.SIGINT, signal.SIGTERM)):
                self._work(store)
            self._clean_up(store)
            return not self._unfinished(store)

    def _stop(self) -> None:
        self._stopping = True

    def _work(self, store: Store) -> None:
        stop_requested = False
        while True:
            self._reap(store)
            if self._stopping and not stop_requested:
                stop_requested = True
                self._request_stop(store)
            if not self._stopping:
                self._start(store)
            if not self._jobs and (self._stopping or not self._unfinished(store)):
                return
            self._renew(store)
            self.tick()
            time.sleep(_POLL_SECONDS if self._jobs else _IDLE_POLL_SECONDS)

    def _start(self, store: Store) -> None:
        """Claim and launch trials until all slots are busy or no trial is free."""
        while len(self._jobs) < self.jobs:
            now = time.monotonic()
            startable = [id for id in self.ids if self._not_before.get(id, 0.0) <= now]
            holder = LeaseHolder.this_process()
            row = store.claim(startable, holder, self.lease)
            if row is None:
                return
            slot = next(slot for slot in range(self.jobs) if slot not in {job.slot for job in self._jobs})
            folder = self.folder.resolve()
            command = Command(
                argv=(
                    sys.executable,
                    "-m",
                    "rosd_kit.sweep.worker",
                    str(folder),
                    row.id,
                    holder.token,
                    str(self.lease),
                    *self.digests.get(row.id, ()),
                ),
                log=folder / worker.LOGS / f"{row.id}.log",
                cwd=Path.cwd(),
                threads=self.threads,
                gpu=self.gpu,
            )
            try:
                handle = self.launcher.launch(command, slot)
            except BaseException:
                store.release(row.id, holder.token)
                raise
            self._jobs.append(_Job(id=row.id, token=holder.token, slot=slot, handle=handle, renewed=now))

    def _renew(self, store: Store) -> None:
        """Renew the leases of trials whose worker has not taken over yet; afterwards the worker renews its own."""
        now = time.monotonic()
        for job in self._jobs:
            if now - job.renewed > self.lease / 4:
                job.renewed = now
                row = store.rows([job.id])[job.id]
                if row.holder is not None and row.holder.pid == LeaseHolder.this_process().pid:
                    store.renew(job.id, job.token, self.lease)

    def _reap(self, store: Store) -> None:
        for job in list(self._jobs):
            code = job.handle.poll()
            if code is not None:
                self._jobs.remove(job)
                self._handle_exit(store, job, code)

    def _handle_exit(self, store: Store, job: _Job, code: int) -> None:
        """Record how a worker ended. A trial whose worker died is tried again, a limited number of times."""
        cause = self._cause_of_death(store, job, code)
        if cause is None and code == worker.NOT_HELD:
            self._not_before[job.id] = time.monotonic() + self.lease
        if cause is not None:
            self._deaths[job.id] += 1
            if self._deaths[job.id] >= _MAX_DEATHS:
                log = self.folder / worker.LOGS / f"{job.id}.log"
                self._fail(store, job, f"its process died {_MAX_DEATHS} times, the last time with {cause}; see {log}")
            else:
                self.notify(f"trial {job.id}: its process died with {cause}; the trial will resume from its checkpoint")
        store.release(job.id, job.token)
        if store.states([job.id])[job.id] in ("finished", "failed"):
            self._notify_ended(store, job.id)
        self._clean_up(store)

    def _fail(self, store: Store, job: _Job, error: str) -> None:
        """Record why a trial failed, unless another process has taken it over since its worker gave it back."""
        holder = LeaseHolder.this_process()
        if not store.fail(job.id, job.token, error) and store.claim([job.id], holder, self.lease) is not None:
            store.fail(job.id, holder.token, error)

    def _cause_of_death(self, store: Store, job: _Job, code: int) -> str | None:
        """Return why a worker died, or None if it ended as workers do; its exit code alone proves nothing.

        A stop that nobody here asked for, for example by a cluster that needs the machine, is a death only if the trial got no
        further since the last one.
        """
        row = store.rows([job.id])[job.id]
        if code == worker.STOPPED and self._stopping:
            return None
        if code == worker.STOPPED and not row.is_held_by(job.token):
            checkpoints = self.folder / worker.TRIALS / job.id / "checkpoints"
            reached = max((path.name for path in checkpoints.glob("step-*")), default="")
            before, self._reached[job.id] = self._reached.get(job.id), reached
            return "a stop that nobody asked for" if reached == before else None
        if code in (worker.DONE, worker.FAILED, worker.STOPPED, worker.NOT_HELD):
            return f"exit code {code} although the trial was not finished" if row.is_held_by(job.token) else None
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _notify_ended(self, store: Store, id: str) -> None:
        row, states = store.rows([id])[id], Counter(store.states(self.ids).values())
        facts = "; ".join(text for text in (self.describe(row), row.error) if text)
        ended = f"[{states['finished'] + states['failed']}/{states.total()}] trial {id} {row.state}"
        self.notify(f"{ended}: {facts}" if facts else ended)

    def _unfinished(self, store: Store) -> bool:
        return any(state in ("waiting", "running") for state in store.states(self.ids).values())

    def _request_stop(self, store: Store) -> None:
        self.notify("stopping: running trials save after their current step; interrupt again to leave without waiting")
        for job in self._jobs:
            store.request_stop(job.id, job.token)

    def _clean_up(self, store: Store) -> None:
        """Remove from finished trials what `keep` does not keep."""
        for id, state in store.states(self.ids).items():
            for name in _REMOVED[self.keep] if state == "finished" else ():
                rmtree(self.folder / worker.TRIALS / id / name, ignore_errors=True)
