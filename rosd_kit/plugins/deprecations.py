"""The plugin API through time: what was renamed in which version, and how long the old name still works.

A plugin says which version it was written for as `rosd_kit_api`. Versions from `OLDEST_API` on are taken: what has another
name by now is found under the old one too, with a `DeprecationWarning` that says what to write. It knows names alone.

To rename something: raise `API_VERSION` in contracts.py, add a line to one of the tables, and say in which version the
old name stops working, at least two later. When that version comes, delete the line and raise `OLDEST_API`.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: The oldest `rosd_kit_api` that is still taken.
OLDEST_API = 1


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """Something with another name since API version `since`; the old name works until version `until`, not in it."""

    old: str
    new: str
    since: int
    until: int

    def __str__(self) -> str:
        return f"{self.old} is called {self.new} since plugin API {self.since}; the old name works until API {self.until}"


#: Names of `rosd_kit`.
NAMES: tuple[Renamed, ...] = ()
#: Hooks, with arguments of the same names.
HOOKS: tuple[Renamed, ...] = ()
#: Methods and class attributes of the slots' base classes, by slot.
METHODS: dict[str, tuple[Renamed, ...]] = {}


def renamed_name(name: str) -> str | None:
    """Return what a name of `rosd_kit` is called today and warn of it, or None where it never had another."""
    found = _find(NAMES, name)
    if found is None:
        return None
    warnings.warn(f"rosd_kit.{found}: write rosd_kit.{found.new}", DeprecationWarning, stacklevel=3)
    return found.new


def adapt_hooks(plugin: Any) -> tuple[str, ...]:
    """Give a plugin's hooks with old names their new ones; return one sentence for each."""
    told = []
    for renamed in HOOKS:
        if hasattr(plugin, renamed.old) and not hasattr(plugin, renamed.new):
            setattr(plugin, renamed.new, getattr(plugin, renamed.old))
            delattr(plugin if renamed.old in vars(plugin) else type(plugin), renamed.old)
            told.append(f"hook {renamed}")
    return _warned(told)


def adapt_component(cls: type[Any]) -> tuple[str, ...]:
    """Give a component class the methods that it has under old names; return one sentence for each."""
    told = []
    for renamed in METHODS.get(getattr(cls, "kind", ""), ()):
        if renamed.old in vars(cls) and renamed.new not in vars(cls):
            setattr(cls, renamed.new, vars(cls)[renamed.old])
            told.append(f"{cls.__name__}.{renamed}")
    if told:
        abc.update_abstractmethods(cls)
    return _warned(told)


def version_note(written_for: int, current: int) -> tuple[str, ...]:
    """Return what to tell of a plugin for an older version that is still taken."""
    if written_for >= current:
        return ()
    return (f"it was written for rosd_kit_api {written_for}, and this is {current}; that one is still taken",)


def _find(table: Iterable[Renamed], old: str) -> Renamed | None:
    return next((renamed for renamed in table if renamed.old == old), None)


def _warned(told: list[str]) -> tuple[str, ...]:
    for text in told:
        warnings.warn(text, DeprecationWarning, stacklevel=3)
    return tuple(told)
