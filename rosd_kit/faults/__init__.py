"""Calls components and validates what they return, one sample at a time.

An exception, or a result that breaks the slot's contract, is a fault: it is recorded with the component and the sample,
counted as `fault/<slot>`, and the step continues without that sample. A component all of whose calls fail in a step ends the
run with its own error. A `RosdError` is not a fault but passes through: the user can fix its cause. This module does not
know the order of the stages.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rosd_kit.contracts import Component
from rosd_kit.errors import ComponentError, RosdError, RunError, own_fault, say, shortened
from rosd_kit.types import FirstError, GateDecision, Group, JsonObject, Prompt, Reflection, TokenWeights, Verdict, View

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A failed call of a component: its slot and name, the sample in words, and the error."""

    slot: str
    component: str
    subject: str
    error: str


@dataclass
class Faults:
    """The number of calls per slot in a step, the calls that failed, and the first exception per slot.

    A result that breaks the contract is no exception of the component: `files` says where its class is written. The exceptions
    stay on the rank that raised them: pickling leaves them out.
    """

    calls: Counter[str] = field(default_factory=Counter)
    failed: list[Fault] = field(default_factory=list)
    first: dict[str, Exception] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def attempt(self, component: Component, subject: str, call: Callable[[], T], check: Callable[[T], None]) -> T | None:
        """Return what `call` returns if it passes `check`; otherwise record a fault and return None."""
        self.calls[component.kind] += 1
        returned = False
        try:
            value = call()
            returned = True
            check(value)
            return value
        except BaseException as raised:
            if isinstance(raised, RosdError) and not isinstance(raised, ComponentError):
                raise
            error = own_fault(raised, f"{component.kind} {component.name!r}")
            cause = raised.__cause__ if isinstance(raised, ComponentError) and raised.__cause__ else raised
            self.failed.append(Fault(component.kind, component.name, subject, say(cause)))
            if not returned:
                self.first.setdefault(component.kind, error)
            elif component.kind not in self.first:
                self.files.setdefault(component.kind, str(getattr(sys.modules.get(type(component).__module__), "__file__", "")))
            return None

    def add(self, other: Faults) -> None:
        """Add the calls and faults of `other`."""
        self.calls += other.calls
        self.failed += other.failed
        self.first = {**other.first, **self.first}
        self.files = {**other.files, **self.files}

    def raise_if_all_failed(self) -> None:
        """Raise the first error of a slot all of whose calls failed, if there was more than one call."""
        for slot, total in Counter(fault.slot for fault in self.failed).items():
            if total == self.calls[slot] > 1:
                if slot not in self.first:
                    where = f" in {file}" if (file := self.files.get(slot)) else ""
                    raise RunError(f"{self._message(slot, total)}. Mend it{where}, or choose another {slot}.")
                self.first[slot].add_note(self._count(slot, total))
                raise self.first[slot]

    def messages(self) -> tuple[str, ...]:
        """Return one line for each slot with faults."""
        return tuple(self._message(slot, total) for slot, total in Counter(fault.slot for fault in self.failed).items())

    def _message(self, slot: str, total: int) -> str:
        return f"{self._count(slot, total)}: {next(fault for fault in self.failed if fault.slot == slot).error}"

    def _count(self, slot: str, total: int) -> str:
        first = next(fault for fault in self.failed if fault.slot == slot)
        amount = f"{total} of {self.calls[slot]}" if total > 1 else "one"
        return f"{slot} {first.component!r} failed on {amount}; first on {first.subject}"

    def __getstate__(self) -> JsonObject:
        return {"calls": self.calls, "failed": self.failed, "first": {}, "files": self.files}


def check_verdicts(count: int) -> Callable[[Sequence[Verdict]], None]:
    """Return a check of a verifier's verdicts on `count` completions."""

    def check(verdicts: Sequence[Verdict]) -> None:
        _require_all(Verdict, verdicts, count)
        for verdict in verdicts:
            if not 0.0 <= verdict.score <= 1.0:  # also false for NaN
                raise ValueError(f"a score of {verdict.score}; scores are in [0, 1]")

    return check


def check_traits(traits: Mapping[str, float]) -> None:
    """Check what a task says of how a response is written."""
    for name, value in traits.items():
        if not isinstance(name, str) or not math.isfinite(value):
            raise ValueError(f"gave the trait {shortened(name)} the value {shortened(value)}; names are str, values finite")


def check_decision(group: Group) -> Callable[[GateDecision], None]:
    """Return a check of a gate's decision about a group."""
    known = {rollout.index for rollout in group.rollouts}

    def check(decision: GateDecision) -> None:
        if not isinstance(decision, GateDecision):
            raise TypeError(f"returned {shortened(decision)}, not a GateDecision")
        indices = [passed.index for passed in decision.passed]
        if len(set(indices)) < len(indices) or not set(indices) <= known:
            raise ValueError(f"passed the rollouts {indices}; the group has {sorted(known)}, each at most once")
        for passed in decision.passed:
            if not (math.isfinite(passed.weight) and passed.weight >= 0.0):
                raise ValueError(f"gave rollout {passed.index} the weight {passed.weight}; weights are finite and not negative")

    return check


def check_views(views: Sequence[View]) -> None:
    """Check the views of a demonstration."""
    _require_all(View, views)


def check_truth(length: int) -> Callable[[tuple[FirstError | None]], None]:
    """Return a check of a task's first error in a text of `length` characters."""

    def check(result: tuple[FirstError | None]) -> None:
        (truth,) = result
        if truth is None:
            return
        if not isinstance(truth, FirstError):
            raise TypeError(f"returned {shortened(truth)}, not a FirstError")
        if not -1 <= truth.start <= truth.end <= length:  # -1: there is no error
            raise ValueError(f"an error from character {truth.start} to {truth.end} of {length}")

    return check


def check_reflections(count: int) -> Callable[[Sequence[Reflection]], None]:
    """Return a check of a reflector's reflections on `count` cases."""
    return lambda reflections: _require_all(Reflection, reflections, count)


def check_located(count: int) -> Callable[[TokenWeights], None]:
    """Return a check of a localizer's weights in [0, 1] for `count` tokens."""

    def check(weights: TokenWeights) -> None:
        if not isinstance(weights, TokenWeights):
            raise TypeError(f"returned {shortened(weights)}, not TokenWeights")
        check_weights(count)(weights.weights)
        if not all(weight <= 1.0 for weight in weights.weights):
            raise ValueError(f"a weight of {max(weights.weights)}; weights are in [0, 1]")

    return check


def check_weights(count: int) -> Callable[[Sequence[float]], None]:
    """Return a check of weights for `count` tokens, which may be above 1."""

    def check(weights: Sequence[float]) -> None:
        if len(weights) != count:
            raise ValueError(f"{len(weights)} weights for {count} tokens")
        for weight in weights:
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"a weight of {weight}; weights are finite and not negative")

    return check


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Check the prompts of a context."""
    _require_all(Prompt, prompts)


def _require_all(kind: type, values: Iterable[object], count: int | None = None) -> None:
    """Raise unless the values are a sequence of this type, and of this length if `count` is given."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"returned {shortened(values)}, not a sequence of {kind.__name__}")
    if count is not None and len(values) != count:
        raise ValueError(f"returned {len(values)} instances of {kind.__name__} instead of {count}")
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"returned {shortened(value)} in its sequence, not a {kind.__name__}")
