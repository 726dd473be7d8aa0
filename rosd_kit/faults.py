"""Parts held to their contracts, one sample at a time.

What a part raises, or hands on against its contract, is a fault: told with the part and the sample, counted as `fault/<slot>`,
and that sample takes no further part. A part that failed at everything it was asked in a step ends the run with its own error.
Errors that a user can mend (`RosdError`) are no faults: they pass. Knows nothing of the stages' order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rosd_kit.contracts import Component
from rosd_kit.errors import RosdError, RunError
from rosd_kit.types import FirstError, GateDecision, Group, Prompt, Reflection, TokenWeights, Verdict, View

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A part that failed for one sample: its slot, its name, the sample in words, and how it failed."""

    slot: str
    part: str
    subject: str
    what: str


@dataclass
class Faults:
    """What went wrong in a step, and out of how many calls a slot. Errors themselves stay in the process that saw them."""

    asked: Counter[str] = field(default_factory=Counter)
    found: list[Fault] = field(default_factory=list)
    first: dict[str, Exception] = field(default_factory=dict)

    def attempt(self, part: Component, subject: str, call: Callable[[], T], check: Callable[[T], None]) -> T | None:
        """Return what a part answers about a sample, or None where that is a fault."""
        self.asked[part.kind] += 1
        try:
            value = call()
            check(value)
            return value
        except RosdError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.found.append(Fault(part.kind, part.name, subject, what))
            self.first.setdefault(part.kind, error)
            return None

    def add(self, other: Faults) -> None:
        """Add what was found elsewhere."""
        self.asked += other.asked
        self.found += other.found
        self.first = {**other.first, **self.first}

    def judge(self) -> None:
        """Raise the first error of a part that failed at everything it was asked, if that was more than one thing."""
        for slot, total in Counter(fault.slot for fault in self.found).items():
            if total == self.asked[slot] > 1:
                told = self._told(slot, total)
                if slot not in self.first:
                    raise RunError(f"{told}. Mend that part, or choose another for the slot.")
                self.first[slot].add_note(told)
                raise self.first[slot]

    def told(self) -> tuple[str, ...]:
        """Return one line for each part that failed at something."""
        return tuple(self._told(slot, total) for slot, total in Counter(fault.slot for fault in self.found).items())

    def _told(self, slot: str, total: int) -> str:
        first = next(fault for fault in self.found if fault.slot == slot)
        amount = f"{total} of {self.asked[slot]}" if total > 1 else "one"
        return f"{slot} {first.part!r} failed on {amount}; first on {first.subject}: {first.what}"

    def __getstate__(self) -> dict[str, Any]:
        return {"asked": self.asked, "found": self.found, "first": {}}


def check_verdicts(count: int) -> Callable[[Sequence[Verdict]], None]:
    """Return a check for what a verifier says of `count` completions."""

    def check(verdicts: Sequence[Verdict]) -> None:
        _all_are(Verdict, verdicts, count)
        for verdict in verdicts:
            if not 0.0 <= verdict.score <= 1.0:  # NaN is neither
                raise ValueError(f"a score of {verdict.score}; scores are in [0, 1]")

    return check


def check_decision(group: Group) -> Callable[[GateDecision], None]:
    """Return a check for what a gate decides about a group."""
    there = {rollout.index for rollout in group.rollouts}

    def check(decision: GateDecision) -> None:
        if not isinstance(decision, GateDecision):
            raise TypeError(f"returned {_shown(decision)}, not a GateDecision")
        indices = [passed.index for passed in decision.passed]
        if len(set(indices)) < len(indices) or not set(indices) <= there:
            raise ValueError(f"let rollouts {indices} pass out of {sorted(there)}")
        for passed in decision.passed:
            if not (math.isfinite(passed.weight) and passed.weight >= 0.0):
                raise ValueError(f"gave rollout {passed.index} the weight {passed.weight}; weights are finite and not negative")

    return check


def check_views(views: Sequence[View]) -> None:
    """Check what a demonstration shows."""
    _all_are(View, views)


def check_truth(length: int) -> Callable[[tuple[FirstError | None]], None]:
    """Return a check for what a task says is the first error in a text of so many characters."""

    def check(told: tuple[FirstError | None]) -> None:
        (truth,) = told
        if truth is None:
            return
        if not isinstance(truth, FirstError):
            raise TypeError(f"returned {_shown(truth)}, not a FirstError")
        if not -1 <= truth.start <= truth.end <= length:  # -1: there is none
            raise ValueError(f"an error from character {truth.start} to {truth.end} of {length}")

    return check


def check_reflections(count: int) -> Callable[[Sequence[Reflection]], None]:
    """Return a check for what a reflector found about `count` cases."""
    return lambda reflections: _all_are(Reflection, reflections, count)


def check_located(count: int) -> Callable[[TokenWeights], None]:
    """Return a check for a localizer's weights of `count` tokens."""

    def check(weights: TokenWeights) -> None:
        if not isinstance(weights, TokenWeights):
            raise TypeError(f"returned {_shown(weights)}, not TokenWeights")
        check_weights(count)(weights.weights)
        if not all(weight <= 1.0 for weight in weights.weights):
            raise ValueError(f"a weight of {max(weights.weights)}; weights are in [0, 1]")

    return check


def check_weights(count: int) -> Callable[[Sequence[float]], None]:
    """Return a check for weights of `count` tokens, which may be above 1."""

    def check(weights: Sequence[float]) -> None:
        if len(weights) != count:
            raise ValueError(f"{len(weights)} weights for {count} tokens")
        for weight in weights:
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"a weight of {weight}; weights are finite and not negative")

    return check


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Check a context's prompts."""
    _all_are(Prompt, prompts)


def _all_are(kind: type, values: Iterable[Any], count: int | None = None) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"returned {_shown(values)}, not a sequence of {kind.__name__}")
    if count is not None and len(values) != count:
        raise ValueError(f"returned {len(values)} of {kind.__name__} where {count} were asked for")
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"returned {_shown(value)} among its answers, not a {kind.__name__}")


def _shown(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else f"{told[:80]} ..."
