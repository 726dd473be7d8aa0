"""The built-in plugin: one folder a slot, one component a file.

It hands over its classes through the same hook as any other plugin, and imports them only when asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from rosd_kit.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from rosd_kit.contracts import Component

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
def rosd_kit_components() -> Iterator[type[Component]]:
    """Yield every class in the `COMPONENTS` of the slot folders."""
    for folder in FOLDERS:
        yield from import_module(f"{__name__}.{folder}").COMPONENTS
