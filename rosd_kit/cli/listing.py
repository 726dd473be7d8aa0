"""Prints components: one line each, or one with all its options."""

from __future__ import annotations

import inspect
import itertools
import re
import types
from collections.abc import Sequence
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.shipped import SHIPPED, shipped_names

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def list_components(registry: Registry, kinds: Sequence[str]) -> None:
    """Print the components of these slots with the first sentence of their docstrings."""
    console = _console()
    for kind in kinds:
        console.print(kind, style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=18)
        table.add_column()
        for name in registry.names(kind):
            table.add_row(f"  {name}", registry.entry(kind, name).summary)
        if kind == "task":
            for name in shipped_names("tasks"):
                table.add_row(f"  {name}", f"Preset. {about(f'tasks/{name}')}")
        console.print(table)


def list_files(folder: str) -> None:
    """Print the shipped recipes, or those of a folder such as `profiles`, with the first sentence of each file's comment."""
    _print_lines([(name, about(f"{folder}/{name}" if folder else name)) for name in shipped_names(folder)])
    _console().print(f"From: {SHIPPED / folder}", soft_wrap=True)


def list_tasks(registry: Registry) -> None:
    """Print the tasks of all plugins, then the shipped presets."""
    entries = [(name, registry.entry("task", name)) for name in registry.names("task")]
    _print_lines([(name, f"{entry.summary} From {entry.origin.distribution}.") for name, entry in entries])
    _print_lines([(name, f"Preset. {about(f'tasks/{name}')}") for name in shipped_names("tasks")])
    _console().print(f"Presets from: {SHIPPED / 'tasks'}", soft_wrap=True)


def _print_lines(rows: Sequence[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=18)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def describe(registry: Registry, kind: str, name: str) -> None:
    """Print everything about one component: docstring, options, capabilities, origin; for a task preset, its file."""
    if kind == "task" and name in shipped_names("tasks") and name not in registry.names(kind):
        print((SHIPPED / "tasks" / f"{name}.yaml").read_text(), end="")
        return
    if kind == "task" and name not in registry.names(kind):
        from rosd_kit.recipe.task_presets import unknown_task

        raise unknown_task(name, registry)
    console, entry = _console(), registry.entry(kind, name)
    console.print(f"{kind}: {name}", style="bold")
    console.print(Padding(inspect.cleandoc(entry.cls.__doc__ or "No description."), (0, 0, 1, 2), expand=False))
    options = entry.cls.Config.model_fields
    console.print("Options:" if options else "Options: none")
    for option, info in options.items():
        console.print(Padding(f"{option}: {type_text(info)}{_default(info)}", (0, 0, 0, 2), expand=False))
        if info.description:
            console.print(Padding(info.description, (0, 0, 0, 6), expand=False))
    console.print(f"Needs: {', '.join(sorted(entry.cls.needs)) or 'nothing'}")
    console.print(f"Provides: {', '.join(sorted(entry.cls.provides)) or 'nothing'}")
    console.print(f"From: {entry.origin}")


def about(name: str) -> str:
    """Return the first sentence of the comment at the top of a shipped file."""
    lines = (SHIPPED / f"{name}.yaml").read_text().splitlines()
    comment = " ".join(line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=[.!?])\s", comment, maxsplit=1)[0]


def type_text(info: FieldInfo) -> str:
    """Return the type of an option as recipes write it: `quote | sentence`, `int > 0`."""
    bounds = [f"{sign} {getattr(rule, name)}" for rule in info.metadata for name, sign in _SIGNS.items() if _has(rule, name)]
    return " ".join([_words(info.annotation), " and ".join(bounds)]).strip()


def _words(annotation: object) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(_words(argument) for argument in arguments)
    if annotation is type(None):
        return "null"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_words(argument) for argument in arguments)}]"
    return getattr(annotation, "__name__", str(annotation))


def _has(rule: object, name: str) -> bool:
    return getattr(rule, name, None) is not None


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "  (must be given)"
    default = info.get_default(call_default_factory=True, validated_data={})
    return "" if default is PydanticUndefined else f" = {default!r}"


def _console() -> Console:
    return Console(markup=False, highlight=False, emoji=False)
