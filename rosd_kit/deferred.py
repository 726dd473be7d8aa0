"""Imports modules when something in them is first used, so that commands that only list and show start at once."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

#: What commands that only list or show never need, unless a plugin does.
HEAVY = ("torch", "transformers", "jaxtyping", "numpy", "scipy")


def defer(*packages: str) -> None:
    """Let `import PACKAGE` cost nothing until the package is used. Packages that are imported already stay as they are."""
    for package in packages:
        if package not in sys.modules:
            stand_in = _Deferred(package)
            stand_in.__spec__ = ModuleSpec(package, None)
            sys.modules[package] = stand_in
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def names_of_stub(package_file: str) -> dict[str, str]:
    """Return the public names of a package and their modules, as the `.pyi` beside its `__init__.py` imports them."""
    stub = ast.parse(Path(package_file).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {name.name: str(node.module) for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}


class _Deferred(ModuleType):
    """Stands in for a package until one of its attributes is asked for; from then on it passes everything on."""

    def __getattr__(self, name: str) -> Any:  # whatever the package has under the name
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)  # `inspect` asks every module for its __file__, which is not a use of it
        package = self.__name__
        if sys.modules.get(package) is self:
            del sys.modules[package]
        return getattr(import_module(package), name)


class _Finder(MetaPathFinder, Loader):
    """Finds submodules that were loaded while their deferred parent was asked for its path: Python would load them twice."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in sys.modules and path is not None else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        return None
