"""Displays: what a run shows while it goes on."""

from __future__ import annotations

from rich.console import Console

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.jsonlines import JsonDisplay
from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.plain import PlainDisplay
from rosd_kit.errors import RosdError

__all__ = ["Display", "RunSummary", "make_display"]


def make_display(*, quiet: bool = False, json: bool = False, live: bool = True, console: Console | None = None) -> Display:
    """Return the display for these flags: live on a terminal, plain lines elsewhere or without `live`.

    Raises `RosdError` for `quiet` with `json`.
    """
    console = console or Console()
    if quiet and json:
        raise RosdError("--quiet and --json exclude each other. Give one")
    if json:
        return JsonDisplay()
    return LiveDisplay(console) if console.is_terminal and live and not quiet else PlainDisplay(console, quiet=quiet)
