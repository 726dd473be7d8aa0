"""Finds the files of a plugin's code and computes their fingerprint, without importing them."""

from __future__ import annotations

import hashlib
from pathlib import Path

_LEFT_OUT = {"__pycache__", ".git", ".venv", "node_modules"}


def code_files(file: str) -> tuple[Path, ...]:
    """Return every file of the package that a file belongs to, or the file alone if it belongs to none.

    The package is the outermost folder with an `__init__.py`; data files count too. Empty if the file does not exist.
    """
    path = Path(file)
    if not path.is_file():
        return ()
    folder = path.parent
    if not (folder / "__init__.py").is_file():
        return (path,)
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return tuple(sorted(each for each in folder.rglob("*") if each.is_file() and not _LEFT_OUT & set(each.parts)))


def fingerprint(file: str) -> str:
    """Return a short SHA-256 of the names and contents of `code_files`; empty if there are none."""
    files = code_files(file)
    if not files:
        return ""
    root, digest = files[0].parent if len(files) == 1 else _common(files), hashlib.sha256()
    for each in files:
        name, content = each.relative_to(root).as_posix(), each.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _common(files: tuple[Path, ...]) -> Path:
    """Return the innermost folder that contains all files."""
    shortest = min((each.parent for each in files), key=lambda folder: len(folder.parts))
    while not all(each.is_relative_to(shortest) for each in files):
        shortest = shortest.parent
    return shortest
