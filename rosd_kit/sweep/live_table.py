"""The live table of a sweep on a terminal: a row per trial that runs or has just ended, and how long the rest takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rosd_kit.display.text import duration, percent, sanitize
from rosd_kit.sweep.progress import TrialLabel, TrialProgress, seconds_left

_INTERVAL = 1.0
#: Lines that the title, the footer and a line of the scheduler need.
_OTHER_LINES = 6
#: What a running trial does before its first step, where it loads and may evaluate, and after its last.
_AT_THE_ENDS = ("starting", "evaluating")
_ORDER = {"running": 0, "failed": 1, "finished": 2, "waiting": 3}


@dataclass(kw_only=True)
class LiveTable:
    """Draws the table in place, about once a second; `read` returns how far the trials are. Use it as a context manager."""

    console: Console
    axes: Sequence[str]
    labels: Mapping[str, TrialLabel]
    jobs: int
    read: Callable[[], Mapping[str, TrialProgress]]
    _drawn: float = 0.0
    _live: Live = field(init=False)

    def __post_init__(self) -> None:
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def tick(self) -> None:
        """Draw the table again if it is due."""
        if time.monotonic() - self._drawn >= _INTERVAL:
            self._live.update(self.table(self.read()), refresh=True)
            self._drawn = time.monotonic()

    def table(self, progress: Mapping[str, TrialProgress]) -> RenderableType:
        """Return the table as it looks now: running trials first, as many rows as the terminal has room for."""
        table = Table(*self.axes, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for title in ("seed", "state", "step", "held-out %", "rollouts %", "left"):
            table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
        ids = sorted(progress, key=lambda id: _ORDER.get(progress[id].state, 9))
        shown = ids[: max(1, self.console.height - _OTHER_LINES)]
        for id in shown:
            table.add_row(*self._cells(self.labels[id], progress[id]))
        hidden = Counter(progress[id].state for id in ids[len(shown) :])
        more = f"and {', '.join(f'{count} {state}' for state, count in hidden.items())} more\n" if hidden else ""
        return Group(table, Text(more + self._footer(progress), style="dim"))

    def _cells(self, label: TrialLabel, one: TrialProgress) -> list[Text]:
        steps = label.steps - one.step
        state = one.state if one.state != "running" else "running" if one.step > 0 and steps else _AT_THE_ENDS[steps == 0]
        score, success = (percent(value) if isfinite(value) else "" for value in (one.score, one.success))
        cells = [
            *label.values,
            str(label.seed),
            state,
            f"{one.step}/{label.steps}",
            score,
            success,
            duration(steps * one.seconds_per_step) if state == "running" and one.seconds_per_step else "",
        ]
        return [Text(sanitize(cell), overflow="ellipsis") for cell in cells]

    def _footer(self, progress: Mapping[str, TrialProgress]) -> str:
        counts = Counter(one.state for one in progress.values())
        states = ", ".join(
            f"{counts[state]} {state}" for state in ("finished", "failed", "running", "waiting") if counts[state]
        )
        left = seconds_left(self.labels, progress, self.jobs)
        return f"{states}; " + ("no step yet" if left is None else f"about {duration(left)} left")
