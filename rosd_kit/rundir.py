"""A run's folder: what is written where, one run a folder, nothing written twice."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rosd_kit.errors import RunError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PACKAGES = ("rosd-kit", "torch", "transformers", "accelerate", "pluggy", "omegaconf", "pydantic", "evaluate", "peft")


class RunDir:
    """The open folder of one run; `close` lets go of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self._lock = path / ".lock"
        self._acquire()

    @classmethod
    def create(cls, out: Path, name: str | None, recipe_name: str) -> RunDir:
        """Make a new folder `out/name`; without a name, `<recipe>-<n>` with the first free number."""
        if name is not None and not _NAME.fullmatch(name):
            raise RunError(f"--name: {name!r} is not allowed. Use letters, digits, '.', '_' and '-', at most 100.")
        chosen = name or next(n for i in range(1, 1_000_000) if not (out / (n := f"{recipe_name}-{i}")).exists())
        path = out / chosen
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path}: already holds a run. Choose another --name, or go on with: --resume {path}")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be made: {error}. Choose another folder with --out.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open the folder of an earlier run to go on with it."""
        if not (path / "recipe.yaml").is_file():
            raise RunError(f"--resume: {path} holds no run (no recipe.yaml). Name a folder such as runs/rosd-1.")
        return cls(path)

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a whole file, whole or not at all."""
        self._write(self.path / name, text)

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one line of JSON; NaN and infinity are written as null, which JSON has."""
        self._guard(self.path / name, lambda file: _append(file, json.dumps(_finite(record)) + "\n"))

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the records of a file of JSON lines; a line that was cut off by a crash is left out."""
        file = self.path / name
        lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]

    def truncate(self, name: str, last_step: int) -> None:
        """Drop the records of steps after `last_step`: they will be made again."""
        kept = [record for record in self.read(name) if record["step"] <= last_step]
        if (self.path / name).is_file():
            self._write(self.path / name, "".join(json.dumps(record) + "\n" for record in kept))

    def write_samples(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Write what was sampled, diagnosed and weighted in one step."""
        (self.path / "samples").mkdir(exist_ok=True)
        lines = "".join(json.dumps(_finite(record), ensure_ascii=False) + "\n" for record in records)
        self._write(self.path / "samples" / f"{name}.jsonl", lines)

    def write_environment(self, plugins: Iterable[str], device: str, threads: int) -> None:
        """Write what this run was made with."""
        versions = {package: _version(package) for package in _PACKAGES}
        facts = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {package: found for package, found in versions.items() if found},
            "plugins": list(plugins),
            "git": _git(),
            "device": device,
            "threads": threads,
        }
        self.write_text("environment.json", json.dumps(facts, indent=1) + "\n")

    def _write(self, file: Path, text: str) -> None:
        def replace(file: Path) -> None:
            aside = file.with_name(f".{file.name}.writing")
            aside.write_text(text, encoding="utf-8", errors="surrogatepass")
            aside.replace(file)

        self._guard(file, replace)

    def _guard(self, file: Path, write: Any) -> None:
        try:
            write(file)
        except OSError as error:
            why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            raise RunError(
                f"{file}: cannot be written: {why}. Earlier checkpoints are untouched; make room, then use --resume {self.path}"
            ) from error

    def _acquire(self) -> None:
        """Take the folder for this process; a lock that a dead process left is taken over."""
        try:
            handle = os.open(self._lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            owner = self._lock.read_text().strip()
            if owner.isdigit() and int(owner) != os.getpid() and _alive(int(owner)):
                raise RunError(f"{self.path}: process {owner} is working in this folder. Choose another --name.") from None
            self._lock.unlink(missing_ok=True)
            return self._acquire()
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error}. Choose another folder with --out.") from error
        with os.fdopen(handle, "w") as file:
            file.write(str(os.getpid()))


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return the commit of the working folder and whether it has changes, or None outside a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())}
