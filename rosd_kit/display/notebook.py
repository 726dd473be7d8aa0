"""The live display in a notebook: one output that is updated during the run."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from rosd_kit.display.base import RunSummary
from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.plain import print_summary
from rosd_kit.evaluation.results import SuiteResult

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

_WIDTH = 100
#: Minimum seconds between updates of the phase, since the browser has to draw each.
_INTERVAL = 0.5


class NotebookDisplay(LiveDisplay):
    """Shows the live panel as HTML through IPython's display handle; needs no widgets."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False))
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0
        self._log: list[str] = []

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        self.start_progress(title, steps, done)
        self._draw()

    def phase(self, name: str) -> None:
        super().phase(name)
        if time.monotonic() - self._drawn > _INTERVAL:
            self._draw()

    def waiting(self, text: str) -> None:
        self._append_line(text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        super().step(step, metrics)
        self._draw()

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        super().evaluation(step, results)
        self._draw()

    def warning(self, text: str) -> None:
        self._append_line(f"warning: {text}")

    def finish(self, summary: RunSummary) -> None:
        print_summary(self.console, summary)
        self._show(self._export_html())

    def close(self) -> None:
        """Leave the last output in place."""

    def _append_line(self, text: str) -> None:
        self._log.append(text)
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        for line in self._log:
            self.console.print(line, markup=False, highlight=False)
        self.console.print(self.panel())
        self._show(self._export_html())

    def _export_html(self) -> str:
        code = '<pre style="line-height:1.2;font-family:monospace">{code}</pre>'
        return self.console.export_html(inline_styles=True, code_format=code)

    def _show(self, html: str) -> None:
        from IPython.display import HTML, display

        page = HTML(html)
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
