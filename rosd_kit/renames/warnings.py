"""Warns of an old name at the line that uses it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_KIT = Path(__file__).parent.parent


class RenamedWarning(DeprecationWarning):
    """Something is used under an old name that still works; the text says what to write instead."""


class RenamedOptionWarning(RenamedWarning):
    """The old name is in a recipe, a profile or an override; the text says in which."""


def warn(text: object, category: type[RenamedWarning] = RenamedWarning) -> None:
    """Warn at the line outside this package that made the call leading here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "<unknown>")
    warnings.warn_explicit(str(text), category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _is_internal(filename: str) -> bool:
    """Return whether a frame of this file only passes a use of an old name on."""
    ours_or_import = filename.startswith((f"{_KIT}/", "<frozen importlib"))
    return ours_or_import or filename.endswith(("/importlib/__init__.py", "/dataclasses.py"))
