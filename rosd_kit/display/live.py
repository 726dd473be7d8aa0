"""The live display: one panel that is redrawn while the run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.plain import print_summary
from rosd_kit.display.text import duration, evaluation_table, harmless, localisation, sparkline
from rosd_kit.evaluation.results import SuiteResult


class LiveDisplay(Display):
    """Redraws step, phase, speed, success, loss, localisation and the last evaluation in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.now, self.steps, self.done, self.current = "", "", 1, 0, 0
        self.metrics: Mapping[str, float] = {}
        self.success: list[float] = []
        self.results: tuple[int, Sequence[SuiteResult]] = (0, ())
        self.began = time.monotonic()
        self.live = Live(console=console, get_renderable=self.panel, refresh_per_second=4, transient=True)

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        self.title, self.steps, self.done, self.current = title, max(1, steps), done, done
        self.began = time.monotonic()
        self.console.print(Text(harmless(title), style="bold"))
        for name, fact in facts.items():
            self.console.print(Text(f"  {name}: {harmless(fact)}", style="dim"))
        self.live.start()

    def phase(self, name: str) -> None:
        self.now = name

    def waiting(self, text: str) -> None:
        self.console.print(Text(harmless(text), style="dim"))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.current, self.metrics = step, metrics
        self.success.append(metrics.get("rollout/success", 0.0))

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        self.results = (step, results)

    def warning(self, text: str) -> None:
        self.console.print(Text(f"warning: {harmless(text)}", style="yellow"))

    def finish(self, summary: RunSummary) -> None:
        self.close()
        print_summary(self.console, summary)

    def close(self) -> None:
        self.live.stop()

    def panel(self) -> RenderableType:
        """Return what the display shows at this moment."""
        made = self.current - self.done
        spent = time.monotonic() - self.began
        left = duration(spent / made * (self.steps - self.current)) if made else "?"
        head = Text(f"step {self.current}/{self.steps}   {self.now or 'starting'}   {left} left", overflow="fold")
        rows = Table.grid(padding=(0, 2))
        for name, fact in self._facts().items():
            rows.add_row(Text(name, style="dim", no_wrap=True), Text(harmless(fact), overflow="fold"))
        bar = Padding(ProgressBar(total=self.steps, completed=self.current), 0)  # a bare bar ends no line
        parts: list[RenderableType] = [head, bar, rows]
        step, results = self.results
        if results:
            parts += [Text(f"evaluation after {step} steps", style="dim"), evaluation_table(results, self.console.width - 4)]
        return Panel(Group(*parts), title=Text(harmless(self.title)), border_style="cyan")

    def _facts(self) -> dict[str, str]:
        m = self.metrics
        if not m:
            return {}
        speeds = (f"{p} {m[f'speed/{p}']:.0f}" for p in ("generate", "reflect", "train") if m.get(f"speed/{p}"))
        room = max(8, self.console.width - 30)
        facts = {
            "success": f"{100 * m.get('rollout/success', 0):.0f}%  {sparkline(self.success, room)}",
            "loss": f"{m.get('train/loss', 0):.4f}   gradient {m.get('train/grad_norm', 0):.3f}",
            "groups": ", ".join(f"{k[5:].replace('_', ' ')} {v:.0f}" for k, v in m.items() if k.startswith("gate/")),
            "quotes": ", ".join(f"{k[9:]} {v:.0f}" for k, v in m.items() if k.startswith("localize/")),
            "located": localisation(m),
            "tokens/s": "  ".join(speeds),
        }
        return {name: fact for name, fact in facts.items() if fact}
