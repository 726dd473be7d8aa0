"""Saying aloud that there is nothing to learn from: each warning once, with what to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: A thing is said when it held for so many steps in a row; a shorter run is judged by all its steps.
PATIENCE = 5


class SignalWatch:
    """Fed with each step's metrics, returns the warnings that are due now."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self.recent: deque[Mapping[str, float]] = deque(maxlen=patience)
        self.first_success: float | None = None
        self.said: set[str] = set()

    def step(self, metrics: Mapping[str, float]) -> list[str]:
        """Return new warnings after this step."""
        self.recent.append(metrics)
        if self.first_success is None:
            self.first_success = metrics.get("rollout/success")
        full = len(self.recent) == self.recent.maxlen
        due = [text for name, holds, text in self._checks() if holds and full and name not in self.said]
        self.said |= {name for name, holds, _ in self._checks() if holds and full}
        return due

    def _checks(self) -> list[tuple[str, bool, str]]:
        n = "1 step" if self.recent.maxlen == 1 else f"{self.recent.maxlen} steps"
        success = sum(m.get("rollout/success", 0.0) for m in self.recent) / max(1, len(self.recent))
        found = sum(self._sum(f"localize/{outcome}") for outcome in ("exact", "normalised", "fuzzy"))
        found += sum(self._sum(f"localize/{outcome}_ambiguous") for outcome in ("exact", "normalised", "fuzzy"))
        left_out = {why: count for why in ("no_weight", "no_privileged_text") if (count := self._sum(f"sample/{why}"))}
        passed = self._sum("sample/ok") + sum(left_out.values())
        reasons = ", ".join(f"{why.replace('_', ' ')} {count:.0f}" for why, count in left_out.items())
        groups = self._sum("gate/all_wrong") + self._sum("gate/all_right") + self._sum("gate/mixed")
        return [
            (
                "groups",
                groups > 0 and self._sum("gate/mixed") == 0 and passed == 0,
                f"no group held both a success and a failure for {n}: nothing can be compared. "
                "Change the problems' difficulty, or raise group_size.",
            ),
            (
                "quotes",
                self._sum("localize/missing") > 0 and found == 0,
                f"no quote was found in any response for {n}. Look at samples/: does the reflector keep the format?",
            ),
            (
                "weights",
                passed > 0 and self._sum("train/weighted_tokens") == 0,
                f"no token had a weight for {n} ({reasons or 'the objective wants none'}). "
                "Check localizer.missing, context and demonstration.",
            ),
            (
                "still",
                self._sum("train/weighted_tokens") > 0 and self._sum("train/weight_change") == 0,
                f"the weights have not changed for {n}. Check optimizer.lr and whether updates are skipped.",
            ),
            (
                "collapse",
                bool(self.first_success) and success < 0.2 * (self.first_success or 0),
                f"success fell to {100 * success:.0f}% from {100 * (self.first_success or 0):.0f}% at the start: "
                "the student is collapsing. Lower optimizer.lr or go back to an earlier checkpoint.",
            ),
        ]

    def _sum(self, name: str) -> float:
        return sum(metrics.get(name, 0.0) for metrics in self.recent)
