"""rosd-kit: on-policy self-distillation as recipes of interchangeable components.

`import rosd_kit as rk` is the one import that a plugin needs. Its public names are listed in `__init__.pyi`, once, for type
checkers and for this module alike; each is imported when it is first used, so that importing the package alone loads
neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module

from rosd_kit import renames
from rosd_kit.deferred import names_of_stub

_MODULES = names_of_stub(__file__)

__all__ = sorted(_MODULES)

renames.install()


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name in _MODULES:
        globals()[name] = getattr(import_module(_MODULES[name]), name)
        return globals()[name]
    return renames.renamed_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
