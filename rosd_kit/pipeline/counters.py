"""The counts of one step, and the failures of its components."""

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
    """Counts by metric name, and which components failed on which samples."""

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: Faults = field(default_factory=Faults)

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to the count of a metric."""
        self.counts[name] += amount

    def add_phase(self, phase: str, tokens: int, seconds: float) -> None:
        """Add the duration of a phase and the tokens it generated."""
        self.counts[f"time/{phase}"] += seconds
        self.counts[f"tokens/{phase}"] += tokens

    def attempt(self, component: Component, subject: str, call: Callable[[], T], check: Callable[[T], None]) -> T | None:
        """Return a component's answer about a sample if it passes `check`; else count the failure and return None."""
        answer = self.faults.attempt(component, subject, call, check)
        if answer is None:
            self.add(f"fault/{component.kind}")
        return answer

    @classmethod
    def of_ranks(cls, of_each: Sequence[Counters]) -> Counters:
        """Combine what ranks counted side by side: sums of counts, the longest of each duration."""
        whole = cls()
        for counters in of_each:
            for name, amount in counters.counts.items():
                longest = name.startswith("time/")
                whole.counts[name] = max(whole.counts[name], amount) if longest else whole.counts[name] + amount
            whole.faults.add(counters.faults)
        return whole

    def merge(self, other: Counters) -> None:
        """Add all counts and failures of `other`."""
        for name, amount in other.counts.items():
            self.counts[name] += amount
        self.faults.add(other.faults)
