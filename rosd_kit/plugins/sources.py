"""Loads a plugin from where it lies: a file, or what an entry point names; and says where that is."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

from rosd_kit.errors import PluginError
from rosd_kit.plugins import hookspecs


def load_default(place: str) -> object:
    """Import a module, or the class that a `module:Class` names and make one."""
    plugin = EntryPoint(name="", value=place, group=hookspecs.PROJECT).load()
    return plugin() if isinstance(plugin, type) else plugin


def module_name(path: Path) -> str:
    """Return a module name that differs for files of the same name in different folders."""
    return f"{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=3).hexdigest()}"


def import_file(name: str, path: Path) -> ModuleType:
    """Import a file as the module of this name; one that raises leaves no module behind."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Return the name and the version of the distribution that an entry point belongs to."""
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "-")


def file_of_entry(point: EntryPoint) -> str:
    """Return the file of an entry point's module, or the entry point's value if there is none."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (Exception, SystemExit):  # a parent package is imported on the way
        spec = None
    return spec.origin if spec and spec.origin else point.value


def file_of(plugin: object) -> str:
    """Return the file of a plugin's code; `-` if it has none."""
    try:
        return inspect.getfile(plugin if isinstance(plugin, ModuleType | type) else type(plugin))
    except (TypeError, OSError):
        return "-"
