"""The counts of one step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts by metric name."""

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, amount: float = 1.0) -> None:
        """Count something."""
        self.counts[name] += amount

    def timed(self, phase: str, tokens: int, seconds: float) -> None:
        """Note how long a phase took and how many tokens it made."""
        self.counts[f"time/{phase}"] += seconds
        self.counts[f"tokens/{phase}"] += tokens

    @classmethod
    def of_all(cls, tallies: Sequence[Tally]) -> Tally:
        """Return what several processes counted at the same time: counts are added up, of durations the longest is taken."""
        whole = cls()
        for tally in tallies:
            for name, amount in tally.counts.items():
                longest = name.startswith("time/")
                whole.counts[name] = max(whole.counts[name], amount) if longest else whole.counts[name] + amount
        return whole

    def merge(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        for name, amount in other.counts.items():
            self.counts[name] += amount
