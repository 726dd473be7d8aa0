"""One line a step: for logs, pipes and dumb terminals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.text import (
    comparison_note,
    comparison_table,
    duration,
    evaluation_table,
    harmless,
    localisation,
    measure_note,
    measures_table,
    oracle_lines,
)
from rosd_kit.evaluation.results import Comparison, SuiteResult


class PlainDisplay(Display):
    """Prints lines to a console; `quiet` leaves out all but warnings and the result."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.warned = Console(stderr=True, highlight=False) if quiet else console
        self.steps = self.done = 0
        self.began = time.monotonic()

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        self.steps, self.done, self.began = steps, done, time.monotonic()
        self._say(title)
        for name, fact in facts.items():
            self._say(f"  {name}: {fact}")

    def waiting(self, text: str) -> None:
        self._say(text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        spent = time.monotonic() - self.began
        left = spent / max(1, step - self.done) * (self.steps - step)
        said = [
            f"step {step}/{self.steps}",
            f"success {100 * metrics.get('rollout/success', 0):.0f}%",
            f"loss {metrics.get('train/loss', 0):.4f}",
            f"samples {metrics.get('train/samples', 0):.0f}",
        ]
        if located := localisation(metrics):
            said.append(f"located: {located}")
        self._say(" | ".join([*said, f"{duration(left)} left"]))

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        if results and not self.quiet:
            self.console.print(f"evaluation after {step} steps", highlight=False)
            self.console.print(evaluation_table(results, self.console.width))

    def measured(self, subject: str, step: int | None, results: Sequence[SuiteResult]) -> None:
        self._say(subject if step is None else f"{subject} after {step} {_steps(step)}")
        if results:
            self.console.print(measures_table(results, self.console.width))
            say(self.console, measure_note(results))
        else:
            self.warning("nothing was measured: evaluation.problems is 0")

    def compared(self, subject: str, against: str, comparisons: Sequence[Comparison]) -> None:
        self._say(f"\n{subject} against {against}")
        self.console.print(comparison_table(comparisons, self.console.width, against="against", subject="measured"))
        say(self.console, f"{comparison_note(comparisons)}; * leaves out zero")

    def warning(self, text: str) -> None:
        say(self.warned, f"warning: {text}")

    def finish(self, summary: RunSummary) -> None:
        print_summary(self.console, summary)

    def _say(self, line: str) -> None:
        if not self.quiet:
            say(self.console, line)


def say(console: Console, line: str) -> None:
    """Print text from anywhere: broken at words on a terminal, in one line elsewhere."""
    told = Text(harmless(line), overflow="fold")
    console.print(told, highlight=False, soft_wrap=not console.is_terminal)


def print_summary(console: Console, summary: RunSummary) -> None:
    """Print what came out of a run."""
    say(console, f"\n{summary.name}: {summary.steps} {_steps(summary.steps)} in {duration(summary.seconds)}")
    if summary.comparisons:
        say(console, "")
        console.print(comparison_table(summary.comparisons, console.width))
        say(console, f"{comparison_note(summary.comparisons)}; * leaves out zero")
    lines = [*oracle_lines(summary.localisation), *(f"warning: {warning}" for warning in summary.warnings)]
    lines.append(f"\nthe run lies in {summary.folder}")
    if summary.next_steps:
        lines += ["try next:", *(f"  {line}" for line in summary.next_steps)]
    for line in lines:
        say(console, line)


def _steps(count: int) -> str:
    return "step" if count == 1 else "steps"
