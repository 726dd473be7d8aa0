"""One line a step: for logs, pipes and dumb terminals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.text import duration, evaluation_table, harmless, localisation, oracle_lines, summary_table
from rosd_kit.evaluation.results import SuiteResult


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
            self.console.print(evaluation_table(results))

    def warning(self, text: str) -> None:
        self.warned.print(f"warning: {harmless(text)}", markup=False, highlight=False, soft_wrap=True)

    def finish(self, summary: RunSummary) -> None:
        print_summary(self.console, summary)

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)


def print_summary(console: Console, summary: RunSummary) -> None:
    """Print what came out of a run."""

    def say(line: str) -> None:
        console.print(harmless(line), markup=False, highlight=False, soft_wrap=True)

    say("")
    say(f"{summary.name}: {summary.steps} steps in {duration(summary.seconds)}")
    if summary.comparisons:
        say("")
        console.print(summary_table(summary))
        first = summary.comparisons[0].after
        say(f"mean@{first.samples} over {first.problems} problems a suite; * the interval leaves out zero")
    for line in oracle_lines(summary.localisation):
        say(line)
    for warning in summary.warnings:
        say(f"warning: {warning}")
    say(f"\nthe run lies in {summary.folder}")
    if summary.next_steps:
        say("try next:")
        for line in summary.next_steps:
            say(f"  {line}")
