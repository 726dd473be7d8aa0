"""Lets old modules be imported, and old names be found in modules that are still there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from rosd_kit.renames.entry import PREFIX
from rosd_kit.renames.modules import MODULES
from rosd_kit.renames.names import NAMES
from rosd_kit.renames.warnings import warn


def renamed_name(module: str, name: str) -> object:
    """Return what a module's old name stands for, with a warning; raises `AttributeError` where there was never such a name."""
    entry = NAMES.get(f"{module}.{name}")
    if entry is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn(entry)
    home, _, new = entry.new.rpartition(".")
    return getattr(import_module(home), new)


def install() -> None:
    """Let old modules be imported, and old names be found in modules that are still there."""
    sys.meta_path.insert(0, _OldNames())


class _OldNames(MetaPathFinder):
    """Finds the modules that moved, and adds their old names to those that did not."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX):  # asked at every import of the process
            return None
        if name in MODULES:
            is_package = any(other.startswith(f"{name}.") for other in MODULES)
            return ModuleSpec(name, _OldModuleLoader(), is_package=is_package)
        if any(old.rpartition(".")[0] == name for old in NAMES):
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module = functools.partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
            return spec
        return None


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    module.__getattr__ = functools.partial(renamed_name, module.__name__)  # type: ignore[method-assign]
    execute(module)


class _OldModule(ModuleType):
    """Stands for a module that moved: takes every name from where it is now.

    Called, it is the function of `rosd_kit` with the same name: `rosd_kit.train` is both an old package and a function.
    """

    def __getattr__(self, name: str) -> object:
        if f"{self.__name__}.{name}" in NAMES:
            return renamed_name(self.__name__, name)
        if f"{self.__name__}.{name}" in MODULES:
            return import_module(f"{self.__name__}.{name}")
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(MODULES[self.__name__].new), name)
        warn(MODULES[self.__name__])
        return value

    def __call__(self, *values: object, **options: object) -> object:
        return getattr(import_module("rosd_kit.api"), self.__name__.rpartition(".")[2])(*values, **options)


class _OldModuleLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if not hasattr(module, "__path__"):  # a package is also imported on the way to its modules
            warn(MODULES[module.__name__])
