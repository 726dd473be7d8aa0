"""Describes a plugin: where it comes from, what it brings, and why it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import rosd_kit
from rosd_kit.errors import PluginError, say
from rosd_kit.plugins.fingerprint import fingerprint

Status = Literal["ok", "denied", "broken"]


@dataclass(frozen=True, kw_only=True)
class PluginReport:
    """One plugin: where it comes from, what it brings, and whether it can be used.

    `brings` lists its `kind name` pairs, once components have been loaded; `reason` says why it was left out. `seconds` is how
    long its import took, `notes` are hints for its author.
    """

    name: str
    distribution: str
    version: str
    file: str
    status: Status = "ok"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.distribution == "file":
            return self.file
        return f"{self.name} ({self.distribution} {self.version}, {self.file})"

    @property
    def fingerprint(self) -> str:
        """A short SHA-256 of all files of its package; empty if it has none."""
        return _own_fingerprint() if self.distribution == "rosd-kit" else fingerprint(self.file)


@cache
def _own_fingerprint() -> str:
    """Return the fingerprint of rosd-kit's own files; once, because a process runs the code that it imported."""
    return fingerprint(rosd_kit.__file__)


def reason_of(error: BaseException) -> str:
    """Return an exception in one line, with its type unless it is a `PluginError`."""
    text = say(error, limit=10_000)
    return text.removeprefix(f"{type(error).__name__}: ") if isinstance(error, PluginError) else text
