"""Displays: how a run reports its progress, on a terminal, in a log or to another program."""

from __future__ import annotations

from rich.console import Console

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.jsonlines import JsonDisplay
from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.notebook import NotebookDisplay, in_notebook
from rosd_kit.display.plain import PlainDisplay
from rosd_kit.errors import RosdError

__all__ = ["Display", "NotebookDisplay", "RunSummary", "make_display"]


def make_display(*, quiet: bool = False, json: bool = False, live: bool = True, console: Console | None = None) -> Display:
    """Return the display for these options: live on a terminal or in a notebook, plain elsewhere or with `live=False`.

    Raises `RosdError` for `quiet` together with `json`.
    """
    console = console or Console()
    if quiet and json:
        raise RosdError("--quiet and --json exclude each other. Give one")
    if json:
        return JsonDisplay()
    if live and not quiet and in_notebook():
        return NotebookDisplay()
    return LiveDisplay(console) if console.is_terminal and live and not quiet else PlainDisplay(console, quiet=quiet)
