"""rosd-kit: on-policy self-distillation as recipes of interchangeable components.

`import rosd_kit as rk` is the one import that a plugin needs. Its public names are listed in `__init__.pyi`, once, for type
checkers and for this module alike; each is imported when it is first used, so that importing the package alone loads
neither torch nor transformers.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from rosd_kit import renames

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_MODULES = {name.name: str(node.module) for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}

__all__ = sorted(_MODULES)

renames.install()


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name in _MODULES:
        globals()[name] = getattr(import_module(_MODULES[name]), name)
        return globals()[name]
    return renames.renamed_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
