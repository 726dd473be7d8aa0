"""What a component does when it is used as a run would use it, once a slot: the laws of every slot are about this.

A trial returns plain values that can be compared, so that two trials of equal components can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosd_kit.contracts import Component
from rosd_kit.testing import examples
from rosd_kit.testing.checking import Bench


@dataclass(frozen=True)
class Trial:
    """A slot's inputs, made anew at each call, and what a component makes of them."""

    inputs: Callable[[Bench], Any]
    use: Callable[[Any, Any], Any]


def _locate(localizer: Any, cases: Any) -> Any:
    return [localizer.locate(case) for case in cases]


TRIALS: dict[str, Trial] = {
    "localizer": Trial(lambda bench: list(examples.cases(bench).values()), _locate),
}


def trial_of(component: Component) -> Trial | None:
    """Return how components of this slot are used, or None where they need more than values."""
    return TRIALS.get(component.kind)
