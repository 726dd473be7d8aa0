"""A file that wrote values of a recipe: where it is, and what exactly was read from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.recipe.shipped import SHIPPED


@dataclass(frozen=True)
class SourceFile:
    """The real path of a file and the SHA-256 of the content that was read."""

    path: Path
    digest: str


def source_file(path: Path, content: bytes) -> SourceFile | None:
    """Return the file that `content` was read from, or None if it is a shipped one, or a copy of one.

    A copy is recognised by its whole content: a checkout that the installed package does not come from has the same recipes.
    """
    real = path.resolve()
    if real.is_relative_to(SHIPPED.resolve()) or any(
        shipped.name == real.name and shipped.read_bytes() == content for shipped in SHIPPED.rglob("*.yaml")
    ):
        return None
    return SourceFile(real, digest_of(content))


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
