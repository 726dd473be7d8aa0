"""Imports the built-in components when they are first used, so that commands which only list them start at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from rosd_kit.deferred import names_of_stub


def names_on_use(package: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a slot's folder.

    It imports the components that the `__init__.pyi` beside it names. `COMPONENTS` is the tuple of them all, in that order.
    """
    module = sys.modules[package]
    modules = {name: place for name, place in names_of_stub(str(module.__file__)).items() if place.startswith(f"{package}.")}

    def get(name: str) -> object:
        if name == "COMPONENTS":
            value: object = tuple(get(each) for each in modules)
        elif name in modules:
            value = getattr(import_module(modules[name]), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(module, name, value)
        return value

    return get
