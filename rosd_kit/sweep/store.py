"""The one file that says which trials there are, who works on them and what came out: SQLite, shared by all processes.

Every change is one transaction, on the disk before it returns, so that a process may die at any moment. A trial is worked
on by whoever holds its token; whoever lost it can neither finish nor fail it. No write-ahead log, which needs shared memory,
so the file may lie on a network file system whose locks work. Leases compare the clocks of the machines that share a store.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rosd_kit.errors import RunError
from rosd_kit.sweep.lease import Owner

State = Literal["waiting", "running", "finished", "failed"]
FILE = "sweep.db"
_VERSION = 1
_PATIENCE = 120.0
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
    """A trial as the store has it. `starts` counts the processes that worked on it; times are seconds since 1970."""

    id: str
    recipe: str
    seed: int
    plugins: tuple[str, ...]
    state: State
    starts: int
    owner: Owner | None
    lease: float | None
    stop: bool
    error: str | None
    result: dict[str, Any] | None


class Store:
    """A sweep's store, open in one thread of one process."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open the store of a folder. Raises `RunError` where there is none, or one that this version cannot read."""
        self.file = folder / FILE
        if not create and not self.file.is_file():
            raise RunError(f"{folder}: holds no sweep (no {FILE}). Name a folder such as sweeps/rosd")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.file, timeout=_PATIENCE, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            with self._change():
                self._prepare()
        except (sqlite3.DatabaseError, OSError) as error:
            raise RunError(f"{self.file}: cannot be used: {error}. Choose another folder, or restore this file") from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise RunError(f"{self.file}: was written by a newer rosd-kit (format {version}). Upgrade, or use another folder")
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Do all of it or nothing, alone."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, name: str, value: str) -> str:
        """Return what the store notes under a name; the first value it was ever given stays."""
        with self._change():
            self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
            return str(self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def add(self, trials: Iterable[tuple[str, str, int]], plugins: Sequence[str]) -> None:
        """Note trials (id, recipe, seed) that the store does not know yet."""
        rows = [(id, recipe, seed, json.dumps(list(plugins)), time.time()) for id, recipe, seed in trials]
        with self._change():
            self._db.executemany(
                "INSERT OR IGNORE INTO trials (id, recipe, seed, plugins, changed) VALUES (?, ?, ?, ?, ?)", rows
            )

    def add_plan(self, digest: str, name: str, content: Mapping[str, Any]) -> None:
        """Note what was asked, or that it was asked again."""
        with self._change():
            self._db.execute(
                "INSERT INTO plans (digest, name, content, asked) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET asked = excluded.asked",
                (digest, name, json.dumps(content), time.time()),
            )

    def plan(self, name: str | None = None) -> dict[str, Any]:
        """Return what was asked last (under a name). Raises `RunError` when there is nothing such."""
        query = "SELECT name, content FROM plans ORDER BY asked DESC, id DESC"
        plans = self._db.execute(query).fetchall()
        for found, content in plans:
            if name in (None, found):
                return dict(json.loads(content))
        names = ", ".join(dict.fromkeys(found for found, _ in plans)) or "none"
        raise RunError(f"{self.file.parent}: no plan {name or 'yet'}. Plans: {names}")

    def states(self, ids: Iterable[str]) -> dict[str, State]:
        """Return how trials stand: those of these ids that there are."""
        found = dict(self._db.execute("SELECT id, state FROM trials").fetchall())
        return {id: found[id] for id in ids if id in found}

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, Row]:
        """Return trials with all that is known of them: all, or those of these ids that there are."""
        query = "SELECT id, recipe, seed, plugins, state, starts, owner, lease, stop, error, result FROM trials"
        if ids is None:
            found = self._db.execute(query).fetchall()
        else:
            asked = (self._db.execute(f"{query} WHERE id = ?", (id,)).fetchone() for id in dict.fromkeys(ids))
            found = [row for row in asked if row is not None]
        return {row[0]: _row(row) for row in found}

    def claim(self, ids: Sequence[str], owner: Owner, lease: float) -> Row | None:
        """Take the first of these trials that nobody works on; None when there is none. `lease` is in seconds."""
        if not self._free(ids):
            return None
        with self._change():
            free = self._free(ids)
            return self._take(self.rows(free[:1])[free[0]], owner, lease) if free else None

    def _free(self, ids: Sequence[str]) -> list[str]:
        """Return the trials that nobody works on, in the order of the given ones."""
        query = "SELECT id, state, owner, lease FROM trials WHERE state IN ('waiting', 'running')"
        free = {id for id, state, owner, lease in self._db.execute(query).fetchall() if _is_free(state, _owner(owner), lease)}
        return [id for id in ids if id in free]

    def take_over(self, id: str, owner: Owner, lease: float) -> Row | None:
        """Take a trial that was claimed under this token for this process to work on; None when somebody else has it."""
        with self._change():
            row = self.rows([id]).get(id)
            if row is None or row.stop:
                return None
            held = row.state == "running" and row.owner is not None and row.owner.token == owner.token
            return self._take(row, owner, lease) if held or _is_free(row.state, row.owner, row.lease) else None

    def _take(self, row: Row, owner: Owner, lease: float) -> Row:
        new = row.owner is None or row.owner.token != owner.token
        self._db.execute(
            "UPDATE trials SET state = 'running', owner = ?, lease = ?, starts = starts + ?, stop = 0, error = NULL, "
            "changed = ? WHERE id = ?",
            (json.dumps(asdict(owner)), time.time() + lease, int(new), time.time(), row.id),
        )
        return self.rows([row.id])[row.id]

    def renew(self, id: str, token: str, lease: float) -> bool | None:
        """Hold on to a trial; returns whether it should stop, or None when it is somebody else's now."""
        with self._change():
            row = self._held(id, token)
            if row is None:
                return None
            self._db.execute("UPDATE trials SET lease = ? WHERE id = ?", (time.time() + lease, id))
            return row.stop

    def stop(self, id: str, token: str) -> None:
        """Ask the process that works on a trial to save and let it go."""
        with self._change():
            if self._held(id, token) is not None:
                self._db.execute("UPDATE trials SET stop = 1 WHERE id = ?", (id,))

    def release(self, id: str, token: str) -> bool:
        """Let a trial go unfinished; returns whether it was held."""
        return self._settle(id, token, "waiting")

    def fail(self, id: str, token: str, error: str) -> bool:
        """Note why a trial cannot be finished; returns whether it was held."""
        return self._settle(id, token, "failed", error=error)

    def finish(self, id: str, token: str, result: Mapping[str, Any]) -> bool:
        """Note what came out of a trial; returns whether it was held: only then does it count."""
        return self._settle(id, token, "finished", result=json.dumps(result))

    def _settle(self, id: str, token: str, state: State, *, error: str | None = None, result: str | None = None) -> bool:
        with self._change():
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
        """Let failed trials be tried again; returns how many there were."""
        with self._change():
            failed = [row.id for row in self.rows(ids).values() if row.state == "failed"]
            self._db.executemany("UPDATE trials SET state = 'waiting' WHERE id = ?", [(id,) for id in failed])
        return len(failed)

    def finishes(self) -> dict[str, int]:
        """Return how often each trial was finished; once, if everything else is right."""
        return dict(self._db.execute("SELECT trial, COUNT(*) FROM finishes GROUP BY trial").fetchall())

    def _held(self, id: str, token: str) -> Row | None:
        row = self.rows([id]).get(id)
        held = row is not None and row.state == "running" and row.owner is not None and row.owner.token == token
        return row if held else None


def _is_free(state: State, owner: Owner | None, lease: float | None) -> bool:
    """Return whether nobody works on a trial that is to be done."""
    if state != "running" or owner is None:
        return state == "waiting"
    return owner.is_dead() or (not owner.is_alive() and (lease or 0) < time.time())


def _owner(text: str | None) -> Owner | None:
    return Owner(**json.loads(text)) if text else None


def _row(row: Sequence[Any]) -> Row:
    id, recipe, seed, plugins, state, starts, owner, lease, stop, error, result = row
    return Row(
        id=id,
        recipe=recipe,
        seed=seed,
        plugins=tuple(json.loads(plugins)),
        state=state,
        starts=starts,
        owner=_owner(owner),
        lease=lease,
        stop=bool(stop),
        error=error,
        result=json.loads(result) if result else None,
    )
