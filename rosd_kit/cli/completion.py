"""Completes what is typed before the tab key: recipes, profiles, slots, components, changes to a recipe, run and sweep folders.

Loads plugins as listing commands do, and neither torch nor a component that is not shown. What cannot be completed stays as it
is typed: a broken plugin or recipe is told by the command, not by the tab key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rosd_kit.deferred import HEAVY, defer
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe.shipped import shipped_names

if TYPE_CHECKING:
    from rosd_kit.plugins.registry import Registry

Completer = Callable[[typer.Context, str], list[str]]
_PLAIN = re.compile(r"[\w.+/-]+")
_RUN, _SWEEP = "recipe.yaml", "sweep.db"


def _quiet(complete: Callable[[typer.Context, str], Iterable[str]]) -> Completer:
    """Return a completer that offers nothing where it fails, and sorts what it offers."""

    @wraps(complete)
    def guarded(context: typer.Context, incomplete: str) -> list[str]:
        try:
            return sorted(set(complete(context, incomplete)))
        except Exception:
            return []

    return guarded


@_quiet
def recipes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the shipped recipes, and YAML files below the folder that is typed."""
    yield from shipped_names()
    yield from _files(incomplete, "*.yaml")


@_quiet
def profiles(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the shipped profiles, `none`, and YAML files."""
    yield from (*shipped_names("profiles"), "none")
    yield from _files(incomplete, "*.yaml")


@_quiet
def runs(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield folders of runs: in `runs/`, or in the folder that is typed."""
    return _folders(incomplete, "runs", _RUN)


@_quiet
def sweeps(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield folders of sweeps: in `sweeps/`, or in the folder that is typed."""
    return _folders(incomplete, "sweeps", _SWEEP)


@_quiet
def runs_and_sweeps(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield folders of runs and of sweeps."""
    yield from _folders(incomplete, "runs", _RUN)
    yield from _folders(incomplete, "sweeps", _SWEEP)


@_quiet
def slots(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the slots."""
    return _registry(context).entries


@_quiet
def component_names(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return what can fill the slot that is typed before."""
    return _fillers(_registry(context), str(context.params["kind"]))


@_quiet
def changes(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield `field=value`: every component of a slot, and other fields with the value that the recipe has.

    Some shells hand over `field`, `=` and the value as words of their own; then only the value is completed.
    """
    registry = _registry(context)
    words = [str(word) for word in context.params.get("overrides") or context.params.get("words") or ()]
    if words and words[-1] == "=":
        words.pop()
    field = words[-1] if words and "=" not in words[-1] else None
    if field is not None:
        yield from _listed(_values(field, registry), incomplete)
        return
    field, equals, value = incomplete.partition("=")
    if equals:
        yield from (f"{field}={text}" for text in _listed(_values(field, registry), value))
        return
    for slot in registry.entries if incomplete else ():
        if slot.startswith(incomplete):
            yield from (f"{slot}={name}" for name in _fillers(registry, slot))
    for path, text in _present(context, registry).items():
        if path.startswith(incomplete) and (incomplete or "." not in path) and _PLAIN.fullmatch(text):
            yield f"{path}={text}"


def _listed(values: Iterable[str], typed: str) -> Iterator[str]:
    """Yield values behind those that a sweep's word lists already."""
    before = typed[: typed.rfind(",") + 1]
    return (before + value for value in values if value not in before.split(","))


def _values(field: str, registry: Registry) -> Iterable[str]:
    if field == "profile":
        return [*shipped_names("profiles"), "none"]
    return _fillers(registry, field.removesuffix(".name")) if field.removesuffix(".name") in registry.entries else ()


def _fillers(registry: Registry, slot: str) -> list[str]:
    return [*registry.names(slot), *(shipped_names("tasks") if slot == "task" else ())]


def _present(context: typer.Context, registry: Registry) -> Mapping[str, str]:
    """Return the plain fields of the recipe that is typed, by path, with their values as they are written."""
    from rosd_kit.contracts import SLOTS
    from rosd_kit.recipe import resolve_recipe, to_values

    profile = context.params.get("profile")
    recipe = resolve_recipe(str(context.params["recipe"]), (), profile and str(profile), registry=registry).recipe
    return {
        path.removesuffix(".name") if path[: -len(".name")] in SLOTS else path: text
        for path, text in _leaves(to_values(recipe))
    }


def _leaves(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.")
        elif isinstance(value, str | int | float | None):
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)


def _registry(context: typer.Context) -> Registry:
    manager: PluginManager = context.find_root().obj
    defer(*HEAVY)
    for file in context.params.get("plugin") or ():
        manager.load_file(Path(str(file)))
    return manager.registry


def _files(incomplete: str, pattern: str) -> Iterator[str]:
    folder = incomplete[: incomplete.rfind("/") + 1]
    yield from (f"{folder}{path.name}" for path in Path(folder).glob(pattern) if path.is_file())


def _folders(incomplete: str, usual: str, mark: str) -> Iterator[str]:
    folder = incomplete[: incomplete.rfind("/") + 1]
    for place in [folder] if folder else ["", f"{usual}/"]:
        yield from (f"{place}{path.parent.name}" for path in Path(place).glob(f"*/{mark}"))
