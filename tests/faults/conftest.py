"""Tiny runs of the embedded model, and a display that records its warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rosd_kit.display import Display
from tests.run.conftest import Folder, one_thread, open_run, run, same, tiny

__all__ = ["one_thread", "open_run", "run", "same", "tiny"]


class RecordingDisplay(Display):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def warned(run) -> Callable[..., list[str]]:
    """Run like `run` and return the warnings."""

    def warned(path: Path, *changes: str, **options: object) -> list[str]:
        display = RecordingDisplay()
        folder = run(path, *changes, display=display, **options)
        assert isinstance(folder, Folder)
        return display.warnings

    return warned
