"""The live display: one panel on the terminal, redrawn during the run."""

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
from rosd_kit.display.text import counted, duration, evaluation_table, left_out, localisation, sanitize, sparkline, truncation
from rosd_kit.evaluation.results import SuiteResult


class LiveDisplay(Display):
    """Shows step, phase, speed, success, loss, localisation and the latest evaluation in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.current_phase, self.steps, self.resumed_at, self.current_step = "", "", 1, 0, 0
        self.metrics: Mapping[str, float] = {}
        self.success: list[float] = []
        self.results: tuple[int, Sequence[SuiteResult]] = (0, ())
        self.started = time.monotonic()
        self.live = Live(console=console, get_renderable=self.panel, refresh_per_second=4, transient=True)

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        self.start_progress(title, steps, done)
        self.console.print(Text(sanitize(title), style="bold"))
        for name, fact in facts.items():
            self.console.print(Text(f"  {name}: {sanitize(fact)}", style="dim"))
        self.live.start()

    def start_progress(self, title: str, steps: int, done: int) -> None:
        """Start the progress and the clock at `done` of `steps` steps."""
        self.title, self.steps, self.resumed_at, self.current_step = title, max(1, steps), done, done
        self.started = time.monotonic()

    def phase(self, name: str) -> None:
        self.current_phase = name

    def waiting(self, text: str) -> None:
        self.console.print(Text(sanitize(text), style="dim"))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.current_step, self.metrics = step, metrics
        self.success.append(metrics.get("rollout/success", 0.0))

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        self.results = (step, results)

    def warning(self, text: str) -> None:
        self.console.print(Text(f"warning: {sanitize(text)}", style="yellow"))

    def finish(self, summary: RunSummary) -> None:
        self.close()
        print_summary(self.console, summary)

    def close(self) -> None:
        self.live.stop()

    def panel(self) -> RenderableType:
        """Return the panel as it looks now."""
        steps_done = self.current_step - self.resumed_at
        seconds = time.monotonic() - self.started
        if steps_done:
            clock = f"{duration(seconds / steps_done * (self.steps - self.current_step))} left"
        else:
            clock = f"{duration(seconds)} so far"
        phase = self.current_phase or "starting"
        if phase == "evaluate":
            phase = f"evaluate the model {'before training' if self.current_step == 0 else f'after step {self.current_step}'}"
        head = Text(f"step {self.current_step}/{self.steps}   {phase}   {clock}", overflow="fold")
        rows = Table.grid(padding=(0, 2))
        for name, fact in self._facts().items():
            rows.add_row(Text(name, style="dim", no_wrap=True), Text(sanitize(fact), overflow="fold"))
        bar = Padding(ProgressBar(total=self.steps, completed=self.current_step), 0)  # the bar alone does not end its line
        contents: list[RenderableType] = [head, bar, rows]
        step, results = self.results
        if results:
            contents += [
                Text(f"evaluation after {counted(step, 'step')}", style="dim"),
                evaluation_table(results, self.console.width - 4),
            ]
        return Panel(Group(*contents), title=Text(sanitize(self.title)), border_style="cyan")

    def _facts(self) -> dict[str, str]:
        m = self.metrics
        if not m:
            return {}
        speeds = (f"{p} {m[f'speed/{p}']:.0f}" for p in ("generate", "reflect", "train") if m.get(f"speed/{p}"))
        width = max(8, self.console.width - 30)
        facts = {
            "success": f"{100 * m.get('rollout/success', 0):.0f}%  {sparkline(self.success, width)}",
            "truncated": truncation(m),
            "loss": f"{m.get('train/loss', 0):.4f}   gradient norm {m.get('train/grad_norm', 0):.3f}",
            "no sample": "" if m.get("train/samples") else left_out(m),
            "groups": ", ".join(f"{k[5:].replace('_', ' ')} {v:.0f}" for k, v in m.items() if k.startswith("gate/")),
            "quotes": ", ".join(f"{k[9:]} {v:.0f}" for k, v in m.items() if k.startswith("localize/")),
            "located": localisation(m),
            "tokens/s": "  ".join(speeds),
        }
        return {name: fact for name, fact in facts.items() if fact}
