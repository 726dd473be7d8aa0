"""Prints one JSON object per event to standard output, for other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rosd_kit.display.base import Display, RunSummary
from rosd_kit.evaluation.results import Comparison, SuiteResult
from rosd_kit.files import finite


class JsonDisplay(Display):
    """Prints `{"event": ...}` lines; NaN and infinite numbers become null."""

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        _print("start", title=title, facts=dict(facts), steps=steps, done=done)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        _print("step", step=step, metrics=dict(metrics))

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        _print("evaluation", step=step, results=[r.to_json() for r in results])

    def measured(self, subject: str, step: int | None, results: Sequence[SuiteResult]) -> None:
        _print("evaluation", model=subject, step=step, results=[r.to_json() for r in results])

    def compared(self, subject: str, against: str, comparisons: Sequence[Comparison]) -> None:
        _print("comparison", model=subject, against=against, comparisons=[c.to_json() for c in comparisons])

    def warning(self, text: str) -> None:
        _print("warning", text=text)

    def finish(self, summary: RunSummary) -> None:
        fields = asdict(summary) | {"comparisons": [c.to_json() for c in summary.comparisons]}
        _print("finish", **fields)


def _print(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps(finite({"event": event, **fields})) + "\n")
    sys.stdout.flush()
