"""A component that is known by name and imported when it is needed.

Only the built-in plugin lists components this way: its index is generated, and a test keeps it true.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosd_kit.contracts import Component


@dataclass(frozen=True, kw_only=True)
class ListedComponent:
    """What a listing shows of a component, and where its class is."""

    kind: str
    name: str
    module: str
    cls: str
    summary: str
    """The first sentence of its docstring."""

    def load(self) -> type[Component]:
        """Import the class."""
        cls: type[Component] = getattr(import_module(self.module), self.cls)
        return cls
