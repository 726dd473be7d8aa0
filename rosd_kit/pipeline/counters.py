"""The counts of one step, and what went wrong in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rosd_kit.contracts import Component
from rosd_kit.faults import Faults

T = TypeVar("T")


@dataclass
class Counters:
    """Counts by metric name, and the faults of parts."""

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: Faults = field(default_factory=Faults)

    def add(self, name: str, amount: float = 1.0) -> None:
        """Count something."""
        self.counts[name] += amount

    def timed(self, phase: str, tokens: int, seconds: float) -> None:
        """Note how long a phase took and how many tokens it made."""
        self.counts[f"time/{phase}"] += seconds
        self.counts[f"tokens/{phase}"] += tokens

    def attempt(self, part: Component, subject: str, call: Callable[[], T], check: Callable[[T], None]) -> T | None:
        """Return what a part answers about a sample, held to `check`; None where it failed, which is counted."""
        answer = self.faults.attempt(part, subject, call, check)
        if answer is None:
            self.add(f"fault/{part.kind}")
        return answer

    @classmethod
    def of_all(cls, tallies: Sequence[Counters]) -> Counters:
        """Return what several processes counted at the same time: counts are added up, of durations the longest is taken."""
        whole = cls()
        for counters in tallies:
            for name, amount in counters.counts.items():
                longest = name.startswith("time/")
                whole.counts[name] = max(whole.counts[name], amount) if longest else whole.counts[name] + amount
            whole.faults.add(counters.faults)
        return whole

    def merge(self, other: Counters) -> None:
        """Add what was counted elsewhere."""
        for name, amount in other.counts.items():
            self.counts[name] += amount
        self.faults.add(other.faults)
