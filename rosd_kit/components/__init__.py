"""The built-in components: one folder per slot, one component per file.

They are registered through the same hook as any plugin. The hook reads `index.json`, which `python docs/generate.py` writes
from the classes, so that a listing imports none of them and a recipe only those that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from rosd_kit.contracts import Component
    from rosd_kit.plugins.listed import ListedComponent

INDEX = Path(__file__).with_name("index.json")

FOLDERS = (
    "tasks",
    "verifiers",
    "rollouts",
    "gates",
    "demonstrations",
    "reflectors",
    "localizers",
    "contexts",
    "teachers",
    "supports",
    "divergences",
    "corrections",
    "objectives",
)


@hookimpl
def rosd_kit_components() -> list[ListedComponent]:
    """Return every built-in component as the index lists it."""
    from rosd_kit.plugins.listed import ListedComponent

    return [ListedComponent(**entry) for entry in json.loads(INDEX.read_text(encoding="utf-8"))]


def built_in_classes() -> Iterator[type[Component]]:
    """Yield the class of every built-in component, slot by slot."""
    for folder in FOLDERS:
        yield from import_module(f"{__name__}.{folder}").COMPONENTS
