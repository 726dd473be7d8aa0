"""Recipes: YAML, `extends`, a profile and overrides become one validated `Recipe`, and a recipe becomes components.

Read in this order: `shipped` (finding files), `sources` (reading them), `layers` (merging), `references`, `validation` and
`model` (what is valid), `resolve` (all of it together), `build` (components), `render` and `schema` (writing).
"""

from __future__ import annotations

from importlib import import_module

from rosd_kit.deferred import names_of_stub

_MODULES = names_of_stub(__file__)

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    """Import a name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_MODULES[name]), name)
    return globals()[name]
