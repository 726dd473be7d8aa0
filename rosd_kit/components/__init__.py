"""The built-in components: one folder per slot, one component per file.

They are registered through the same hook as any plugin, and imported only when that hook is called.
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
    """Yield every built-in component, slot by slot."""
    for folder in FOLDERS:
        yield from import_module(f"{__name__}.{folder}").COMPONENTS
