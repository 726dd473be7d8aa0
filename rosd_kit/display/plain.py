"""The plain display: one line per step, for logs, pipes and simple terminals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.display.text import (
    comparison_note,
    comparison_table,
    counted,
    duration,
    evaluation_note,
    evaluation_table,
    full_evaluation_table,
    left_out,
    localisation,
    oracle_lines,
    sanitize,
    truncation,
    unchanged_note,
)
from rosd_kit.evaluation.results import Comparison, SuiteResult


class PlainDisplay(Display):
    """Prints lines to a console; with `quiet`, only warnings (to standard error) and results."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.warning_console = Console(stderr=True, highlight=False) if quiet else console
        self.steps = self.resumed_at = 0
        self.started = time.monotonic()

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        self.steps, self.resumed_at, self.started = steps, done, time.monotonic()
        self._print(title)
        for name, fact in facts.items():
            self._print(f"  {name}: {fact}")

    def waiting(self, text: str) -> None:
        self._print(text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        seconds = time.monotonic() - self.started
        left = seconds / max(1, step - self.resumed_at) * (self.steps - step)
        facts = [
            f"step {step}/{self.steps}",
            f"success {100 * metrics.get('rollout/success', 0):.0f}%",
            f"loss {metrics.get('train/loss', 0):.4f}",
            f"samples {metrics.get('train/samples', 0):.0f}",
        ]
        if not metrics.get("train/samples") and (reasons := left_out(metrics)):
            facts[-1] += f" ({reasons})"
        if cut_off := truncation(metrics):
            facts.append(f"truncated {cut_off}")
        if located := localisation(metrics):
            facts.append(f"located: {located}")
        self._print(" | ".join([*facts, f"{duration(left)} left"]))

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        if results and not self.quiet:
            self.console.print(f"evaluation after {counted(step, 'step')}", highlight=False)
            self.console.print(evaluation_table(results, self.console.width))

    def measured(self, subject: str, step: int | None, results: Sequence[SuiteResult]) -> None:
        self._print(subject if step is None else f"{subject} after {counted(step, 'step')}")
        if results:
            self.console.print(full_evaluation_table(results, self.console.width))
            print_line(self.console, evaluation_note(results))
        else:
            self.warning("nothing was evaluated: evaluation.problems is 0")

    def compared(self, subject: str, against: str, comparisons: Sequence[Comparison]) -> None:
        self._print(f"\n{subject} against {against}")
        self.console.print(comparison_table(comparisons, self.console.width, against="against", subject="measured"))
        print_line(self.console, comparison_note(comparisons))

    def warning(self, text: str) -> None:
        print_line(self.warning_console, f"warning: {text}")

    def finish(self, summary: RunSummary) -> None:
        print_summary(self.console, summary)

    def _print(self, line: str) -> None:
        if not self.quiet:
            print_line(self.console, line)


def print_line(console: Console, line: str, *, copied: bool = False) -> None:
    """Print text that may contain data: wrapped at words on a terminal, unwrapped elsewhere.

    A command or path, which is to be `copied`, is left to the terminal to wrap: a line break in it would be copied too.
    """
    text = Text(sanitize(line), overflow="fold")
    console.print(text, highlight=False, soft_wrap=copied or not console.is_terminal)


def print_summary(console: Console, summary: RunSummary) -> None:
    """Print the result of a run: the table near the end, so that it is still there on a terminal of 24 lines."""
    print_line(console, f"\n{summary.name}: {counted(summary.steps, 'step')} in {duration(summary.seconds)}")
    for warning in summary.warnings:
        print_line(console, f"warning: {warning}")
    if cut_off := truncation(summary.rollouts):
        print_line(console, f"truncated: {cut_off} rollouts were cut off at sampling.max_new_tokens")
    for line in oracle_lines(summary.localisation):
        print_line(console, line)
    if summary.comparisons:
        print_line(console, "")
        console.print(comparison_table(summary.comparisons, console.width))
        print_line(console, comparison_note(summary.comparisons))
    if unchanged := unchanged_note(summary.comparisons, summary.rollouts):
        print_line(console, unchanged)
    print_line(console, f"\nrun folder: {summary.folder}", copied=True)
    if summary.next_steps:
        for line in ("try next:", *(f"  {line}" for line in summary.next_steps)):
            print_line(console, line, copied=True)
