"""The sweep's database: which trials there are, which process holds each, and their results. One SQLite file, shared by all.

Every change is one transaction that reaches the disk before the call returns, so a process may die at any moment. Only the
process that holds a trial's token can finish or fail it. There is no write-ahead log, which would need shared memory, so the
file may lie on a network file system with working locks. Leases compare the clocks of the machines that share the store.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rosd_kit.errors import RunError
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.records import StoredPlan, TrialResult

State = Literal["waiting", "running", "finished", "failed"]
FILE = "sweep.db"
_VERSION = 1
_BUSY_TIMEOUT = 120.0
_ORIGINS = "origins of {}"
#: `owner` is the lease holder as JSON; `lease` is when the lease expires.
_SCHEMA = """
CREATE TABLE trials (
  id TEXT PRIMARY KEY, recipe TEXT NOT NULL, seed INTEGER NOT NULL, plugins TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'finished', 'failed')),
  starts INTEGER NOT NULL DEFAULT 0, owner TEXT, lease REAL, stop INTEGER NOT NULL DEFAULT 0,
  error TEXT, result TEXT, changed REAL NOT NULL
);
CREATE TABLE plans (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, content TEXT NOT NULL, asked REAL NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE finishes (trial TEXT NOT NULL, token TEXT NOT NULL, time REAL NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trial in the store. `starts` counts the processes that worked on it; `lease_end` is in seconds since 1970."""

    id: str
    recipe: str
    seed: int
    plugins: tuple[str, ...]
    state: State
    starts: int
    holder: LeaseHolder | None
    lease_end: float | None
    stop: bool
    error: str | None
    result: TrialResult | None

    def is_held_by(self, token: str) -> bool:
        """Return whether the process with this token holds the trial."""
        return self.state == "running" and self.holder is not None and self.holder.token == token


class _Connection(sqlite3.Connection):
    """Says what a lock that is never released means for a sweep."""

    file: Path

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        """Run one statement. Raises `RunError` if another process holds the lock for longer than the timeout."""
        try:
            return super().execute(*statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise RunError(
                f"{self.file}: another process has locked it for {_BUSY_TIMEOUT:g} s. It may be suspended (`ps` says state T): "
                "let it go on or end it, then start the sweep again. Finished trials are kept."
            ) from error


class Store:
    """An open connection to a sweep's database, for one thread of one process."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open the database in a folder. Raises `RunError` when there is none, or when this version cannot read it."""
        self.file = folder / FILE
        if not create and not self.file.is_file():
            raise RunError(f"{folder}: contains no sweep (no {FILE}). Give a sweep's folder, for example sweeps/rosd")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.file, timeout=_BUSY_TIMEOUT, isolation_level=None, factory=_Connection)
            self._db.file = self.file
            self._db.execute("PRAGMA synchronous = FULL")
            if self.file.stat().st_size and (told := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(" ".join(str(told).split()))
            with self._transaction():
                self._create_tables()
        except (sqlite3.DatabaseError, OSError) as error:
            raise RunError(f"{self.file}: cannot be used: {error}. Choose another folder, or restore this file") from error

    def _create_tables(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise RunError(f"{self.file}: was written by a newer rosd-kit (format {version}). Upgrade, or use another folder")
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run the block as one exclusive transaction; roll back when it raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn an error while a stored value is read into one that names the file and the value."""
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            raise RunError(f"{self.file}: {what} is damaged: {type(error).__name__}: {error}. Restore this file") from error

    def set_default(self, name: str, value: str) -> str:
        """Store a value under a name unless there is one already, and return the stored value."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
            return str(self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def add(self, trials: Iterable[tuple[str, str, int]], plugins: Sequence[str]) -> None:
        """Add trials (id, recipe, seed); those that the store already has stay unchanged."""
        rows = [(id, recipe, seed, json.dumps(list(plugins)), time.time()) for id, recipe, seed in trials]
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO trials (id, recipe, seed, plugins, changed) VALUES (?, ?, ?, ?, ?)", rows
            )

    def add_origins(self, origins: Mapping[str, str]) -> None:
        """Add where the values of trials' recipes come from, by trial; what is there stays unchanged."""
        with self._transaction():
            rows = [(_ORIGINS.format(id), text) for id, text in origins.items()]
            self._db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", rows)

    def origins(self, id: str) -> str | None:
        """Return where the values of a trial's recipe come from, or None where an earlier version planned it."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (_ORIGINS.format(id),)).fetchone()
        return str(row[0]) if row else None

    def add_plan(self, digest: str, name: str, content: StoredPlan) -> None:
        """Add a plan, or mark it as the latest if the store already has it."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO plans (digest, name, content, asked) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET asked = excluded.asked",
                (digest, name, json.dumps(content), time.time()),
            )

    def plan(self, name: str | None = None) -> StoredPlan:
        """Return the latest plan, or the latest with this name. Raises `RunError` when there is none."""
        query = "SELECT name, content FROM plans ORDER BY asked DESC, id DESC"
        with self._explained("the table of plans"):
            plans = self._db.execute(query).fetchall()
        for plan_name, content in plans:
            if name in (None, plan_name):
                with self._explained(f"plan {plan_name}"):
                    plan: StoredPlan = json.loads(content)
                    return plan
        names = ", ".join(dict.fromkeys(plan_name for plan_name, _ in plans)) or "none"
        raise RunError(f"{self.file.parent}: no plan {name or 'yet'}. Plans: {names}")

    def states(self, ids: Iterable[str]) -> dict[str, State]:
        """Return the states of those of these trials that exist."""
        states = dict(self._db.execute("SELECT id, state FROM trials").fetchall())
        return {id: states[id] for id in ids if id in states}

    def seconds(self, ids: Iterable[str]) -> dict[str, float]:
        """Return how long those of these trials took that have finished, without reading the rest of their results."""
        query = "SELECT id, json_extract(result, '$.seconds') FROM trials WHERE result IS NOT NULL"
        with self._explained("the results of trials"):
            seconds = dict(self._db.execute(query).fetchall())
        return {id: float(seconds[id]) for id in ids if seconds.get(id) is not None}

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, Row]:
        """Return all trials, or those of these ids that exist."""
        query = "SELECT id, recipe, seed, plugins, state, starts, owner, lease, stop, error, result FROM trials"
        with self._explained("the table of trials"):
            if ids is None:
                rows = self._db.execute(query).fetchall()
            else:
                selected = (self._db.execute(f"{query} WHERE id = ?", (id,)).fetchone() for id in dict.fromkeys(ids))
                rows = [row for row in selected if row is not None]
        found = {}
        for row in rows:
            with self._explained(f"trial {row[0]}"):
                found[row[0]] = _row(row)
        return found

    def claim(self, ids: Sequence[str], holder: LeaseHolder, lease: float) -> Row | None:
        """Claim the first free trial, in the given order; return None when none is free. `lease` is in seconds."""
        if not self._free(ids):
            return None
        with self._transaction():
            free = self._free(ids)
            return self._take(self.rows(free[:1])[free[0]], holder, lease) if free else None

    def _free(self, ids: Sequence[str]) -> list[str]:
        """Return the unfinished trials that no process holds, in the given order."""
        query = "SELECT id, state, owner, lease FROM trials WHERE state IN ('waiting', 'running')"
        rows = self._db.execute(query).fetchall()
        free = {id for id, state, holder, lease_end in rows if _is_free(state, _holder(holder), lease_end)}
        return [id for id in ids if id in free]

    def take_over(self, id: str, holder: LeaseHolder, lease: float) -> Row | None:
        """Take a trial that is free or was claimed with this token; return None when another process holds it."""
        with self._transaction():
            row = self.rows([id]).get(id)
            if row is None or row.stop:
                return None
            free = row.is_held_by(holder.token) or _is_free(row.state, row.holder, row.lease_end)
            return self._take(row, holder, lease) if free else None

    def _take(self, row: Row, holder: LeaseHolder, lease: float) -> Row:
        new = row.holder is None or row.holder.token != holder.token
        self._db.execute(
            "UPDATE trials SET state = 'running', owner = ?, lease = ?, starts = starts + ?, stop = 0, error = NULL, "
            "changed = ? WHERE id = ?",
            (json.dumps(holder.to_json()), time.time() + lease, int(new), time.time(), row.id),
        )
        return self.rows([row.id])[row.id]

    def renew(self, id: str, token: str, lease: float) -> bool | None:
        """Extend a lease. Return whether the trial should stop, or None when another process holds it now."""
        with self._transaction():
            row = self._held(id, token)
            if row is None:
                return None
            self._db.execute("UPDATE trials SET lease = ? WHERE id = ?", (time.time() + lease, id))
            return row.stop

    def request_stop(self, id: str, token: str) -> None:
        """Ask the process that holds a trial to save and release it."""
        with self._transaction():
            if self._held(id, token) is not None:
                self._db.execute("UPDATE trials SET stop = 1 WHERE id = ?", (id,))

    def release(self, id: str, token: str) -> bool:
        """Release an unfinished trial. Return whether this token held it."""
        return self._end(id, token, "waiting")

    def fail(self, id: str, token: str, error: str) -> bool:
        """Record why a trial failed. Return whether this token held it."""
        return self._end(id, token, "failed", error=error)

    def finish(self, id: str, token: str, result: TrialResult) -> bool:
        """Record a trial's result. Return whether this token held it; if not, the result is dropped."""
        return self._end(id, token, "finished", result=json.dumps(result))

    def adopt(self, results: Mapping[str, TrialResult]) -> int:
        """Finish those of these trials that are waiting or failed, with results from elsewhere. Return how many they were."""
        with self._transaction():
            adopted = [id for id, row in self.rows(results).items() if row.state in ("waiting", "failed")]
            now = time.time()
            self._db.executemany(
                "UPDATE trials SET state = 'finished', error = NULL, result = ?, changed = ? WHERE id = ?",
                [(json.dumps(results[id]), now, id) for id in adopted],
            )
            self._db.executemany("INSERT INTO finishes VALUES (?, 'adopted', ?)", [(id, now) for id in adopted])
        return len(adopted)

    def _end(self, id: str, token: str, state: State, *, error: str | None = None, result: str | None = None) -> bool:
        with self._transaction():
            if self._held(id, token) is None:
                return False
            self._db.execute(
                "UPDATE trials SET state = ?, owner = NULL, lease = NULL, stop = 0, error = ?, result = ?, changed = ? "
                "WHERE id = ?",
                (state, error, result, time.time(), id),
            )
            if state == "finished":
                self._db.execute("INSERT INTO finishes VALUES (?, ?, ?)", (id, token, time.time()))
        return True

    def retry(self, ids: Iterable[str]) -> int:
        """Set failed trials back to waiting. Return how many there were."""
        with self._transaction():
            failed = [row.id for row in self.rows(ids).values() if row.state == "failed"]
            self._db.executemany("UPDATE trials SET state = 'waiting' WHERE id = ?", [(id,) for id in failed])
        return len(failed)

    def finish_counts(self) -> dict[str, int]:
        """Return how often each trial was finished. Anything but 1 is a bug."""
        return dict(self._db.execute("SELECT trial, COUNT(*) FROM finishes GROUP BY trial").fetchall())

    def _held(self, id: str, token: str) -> Row | None:
        row = self.rows([id]).get(id)
        return row if row is not None and row.is_held_by(token) else None


def _is_free(state: State, holder: LeaseHolder | None, lease_end: float | None) -> bool:
    """Return whether a trial is unfinished and no process holds it."""
    if state != "running" or holder is None:
        return state == "waiting"
    return holder.is_dead() or (not holder.is_alive() and (lease_end or 0) < time.time())


def _holder(text: str | None) -> LeaseHolder | None:
    return LeaseHolder.from_json(json.loads(text)) if text else None


def _row(row: sqlite3.Row) -> Row:
    id, recipe, seed, plugins, state, starts, holder, lease_end, stop, error, result = row
    return Row(
        id=id,
        recipe=recipe,
        seed=seed,
        plugins=tuple(json.loads(plugins)),
        state=state,
        starts=starts,
        holder=_holder(holder),
        lease_end=lease_end,
        stop=bool(stop),
        error=error,
        result=json.loads(result) if result else None,
    )
