"""The folder of a run: which files it has and how they are written. One folder per run."""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, NotRequired, TypedDict

from rosd_kit.errors import RunError
from rosd_kit.files import explain_write_errors, finite, lock_file, read_json_object, write_atomically
from rosd_kit.run.links import check_entries
from rosd_kit.run.records import in_words, read_records
from rosd_kit.types import JsonObject

RECIPE, ORIGINS, LOCK = "recipe.yaml", "origins.json", ".lock"
_MOMENT = 0.1
#: Folders of a run that the kit itself writes into, each with its levels.
_WRITTEN = {"samples": 1, "checkpoints": 2}
#: What a process leaves that is killed while it writes a file of the run; reports are written without the lock.
_LEFTOVER = re.compile(r"\.(recipe\.yaml|origins\.json|environment\.json)\.[0-9]+\.writing")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PACKAGES = ("rosd-kit", "torch", "transformers", "accelerate", "pluggy", "omegaconf", "pydantic", "evaluate", "peft")
_DECISIVE = ("python", "versions", "plugins", "model", "device", "threads")


class EnvironmentRecord(TypedDict):
    """What `environment.json` says of one start of a run: the code that ran, where, and on what model.

    `plugins` has a line for each, `threads` is torch's number of them, `given_components` what Python handed in by slot.
    """

    python: str
    platform: str
    run: str
    versions: dict[str, str]
    plugins: list[str]
    git: GitRecord | None
    model: str
    device: str
    threads: int
    given_components: NotRequired[dict[str, str]]


class GitRecord(TypedDict):
    """The commit of the working folder, and whether it has changes."""

    commit: str
    dirty: bool


class RunFolder:
    """The folder of one run, locked until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self._lock = self._acquire()

    @classmethod
    def create(cls, out: Path, name: str | None, recipe_name: str) -> RunFolder:
        """Create a new folder `out/name`; without a name, `<recipe>-<n>` with the first free number."""
        if name is not None and not _NAME.fullmatch(name):
            raise RunError(f"--name: {name!r} is not allowed. Use letters, digits, '.', '_' and '-', at most 100.")
        chosen = name or next(n for i in range(1, 1_000_000) if not (out / (n := f"{recipe_name}-{i}")).exists())
        path = out / chosen
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be created: {error}. Choose another folder with --out.") from error
        folder = cls(path)
        if any(not entry.name.startswith(".") for entry in path.iterdir()):
            folder.close()
            if not (path / RECIPE).is_file():
                raise RunError(f"{path}: is not empty and holds no run (no {RECIPE}). Choose another --name, or empty it.")
            raise RunError(f"{path}: already holds a run. Choose another --name, or continue it with: --resume {path}")
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run to continue it."""
        if not (path / "recipe.yaml").is_file():
            raise RunError(f"--resume: {path} holds no run (no recipe.yaml). Name a run's folder, for example runs/rosd-1.")
        check_entries(path, _WRITTEN)
        return cls(path)

    @classmethod
    def watch(cls, path: Path) -> RunFolder:
        """Return the folder for a rank that only reads it: writing does nothing there."""
        return _Watched(path)

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.close()

    def write_text(self, name: str, text: str) -> None:
        """Write a file atomically."""
        self._write(self.path / name, text)

    def write_folder(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a folder atomically: call `write` with a temporary path, then replace the old folder."""

        def replace(folder: Path) -> None:
            aside, old = (folder.with_name(f".{folder.name}.{word}") for word in ("writing", "old"))
            for left in (aside, old):
                shutil.rmtree(left, ignore_errors=True)
            write(aside)
            if folder.exists():
                folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old, ignore_errors=True)

        self._guard(self.path / name, replace)

    def append(self, name: str, record: Mapping[str, object]) -> None:
        """Append one line of JSON; NaN and infinity become null."""
        self._guard(self.path / name, lambda file: _append(file, json.dumps(finite(record)) + "\n"))

    def read(self, name: str) -> list[JsonObject]:
        """Return the records of a file of JSON lines, metrics by their current names; damaged lines are left out."""
        return read_records(self.path / name).whole

    def truncate(self, name: str, last_step: int) -> list[str]:
        """Drop the records of steps after `last_step`, which will be taken again, and set damaged lines aside.

        Return what is wrong with the file: lines that are no records, now in `NAME.damaged`, and repeated steps.
        """
        file = self.path / name
        if not file.is_file():
            return []
        records, problems = read_records(file), []
        kept = records.without_repeats(last_step)
        if records.damaged:
            aside = file.with_name(f"{name}.damaged")
            self._guard(aside, lambda aside: _append_bytes(aside, [line.content for line in records.damaged]))
            lines = in_words(line.number for line in records.damaged)
            problems.append(f"{file}: damaged, line {lines}: {records.damaged[0].why}. Set aside in {aside.name}")
        if len(kept) < sum(record["step"] <= last_step for record in records.whole):
            problems.append(f"{file}: some steps are recorded more than once; the first record of each was kept")
        self._write(file, "".join(json.dumps(record) + "\n" for record in kept))
        return problems

    def write_samples(self, name: str, records: Iterable[Mapping[str, object]]) -> None:
        """Write the sample records of one step."""
        lines = "".join(json.dumps(finite(record), ensure_ascii=False) + "\n" for record in records)
        self._write(self.path / "samples" / f"{name}.jsonl", lines)

    def run_id(self) -> str | None:
        """Return the id that this run was given when it began; None if its record is missing, damaged or older than ids."""
        found = read_json_object(self.path / "environment.json").get("run")
        return found if isinstance(found, str) else None

    def write_environment(
        self,
        *,
        run_id: str,
        plugins: Iterable[str],
        model: str,
        device: str,
        threads: int,
        given_components: Mapping[str, str],
    ) -> list[str]:
        """Record the environment of this run and return what has changed since it began.

        A resumed run keeps its first record and adds the current one under `resumed`.
        """
        versions = {package: _version(package) for package in _PACKAGES}
        facts: EnvironmentRecord = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "run": run_id,
            "versions": {package: found for package, found in versions.items() if found},
            "plugins": list(plugins),
            "git": _git(),
            "model": model,
            "device": device,
            "threads": threads,
        }
        if given_components:
            facts["given_components"] = dict(given_components)
        began = read_json_object(self.path / "environment.json")
        whole = {"run": run_id, **began, "resumed": [*_list(began.get("resumed")), facts]} if began else facts
        self.write_text("environment.json", json.dumps(whole, indent=1) + "\n")
        return _differences(began, facts) if began else []

    def _write(self, file: Path, text: str) -> None:
        def replace(file: Path) -> None:
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, [text])

        self._guard(file, replace)

    def _guard(self, file: Path, write: Callable[[Path], None]) -> None:
        with explain_write_errors(f"{file}:", f"Earlier checkpoints are untouched; make room, then use --resume {self.path}"):
            write(file)

    def _acquire(self) -> IO[str]:
        """Lock the folder; the system releases the lock when the process ends, however it ends."""
        with explain_write_errors(f"{self.path}:", "Choose another folder with --out."):
            try:
                lock = _lock_twice(self.path / LOCK)
            except BlockingIOError as error:
                raise RunError(
                    f"{self.path}: another process is working in this folder. Wait until it ends, or choose another --name."
                ) from error
            for left in self.path.glob(".*.writing"):  # by a process that was killed: only the lock's holder writes these
                if _LEFTOVER.fullmatch(left.name):
                    left.unlink()
            return lock


def _lock_twice(file: Path) -> IO[str]:
    """Lock a file; try again once, because a report that looks whether the run is at work holds the lock for a moment."""
    try:
        return lock_file(file)
    except BlockingIOError:
        time.sleep(_MOMENT)
        return lock_file(file)


class _Watched(RunFolder):
    """The folder of a run to which another rank writes."""

    def _guard(self, file: Path, write: Callable[[Path], None]) -> None:
        pass

    def _acquire(self) -> IO[str]:
        return io.StringIO()


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line)


def _append_bytes(file: Path, lines: Iterable[bytes]) -> None:
    with file.open("ab") as stream:
        stream.writelines(line + b"\n" for line in lines)


def _differences(began: JsonObject, now: Mapping[str, object]) -> list[str]:
    """Return `name: before -> now` for everything that may affect numbers."""
    found = []
    for key in _DECISIVE:
        before, after = began.get(key), now[key]
        if isinstance(before, dict) and isinstance(after, dict):
            pairs = {f"{key}.{name}": (before.get(name), after.get(name)) for name in before | after}
        else:
            pairs = {key: (before, after)}
        found += [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]
    return found


@cache  # imported packages do not change
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> GitRecord | None:
    """Return the commit of the working folder and whether it has changes; None outside a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())}
