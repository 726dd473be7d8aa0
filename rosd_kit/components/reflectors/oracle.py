"""The oracle reflector: reports the true first error and the right continuation, which procedural tasks know."""

from __future__ import annotations

from collections.abc import Sequence

from rosd_kit.contracts import Generate, Reflector
from rosd_kit.types import Case, Reflection


class OracleReflector(Reflector):
    """Reports the task's own truth: the upper bound for reflectors."""

    name = "oracle"
    needs = frozenset({"oracle"})
    provides = frozenset({"reflection", "quote"})

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        return [_true_reflection(case) for case in cases]


def _true_reflection(case: Case) -> Reflection:
    truth = case.truth
    if truth is None:
        return Reflection(status="no_truth")
    if truth.status == "none" or truth.start < 0:
        return Reflection(idea=truth.idea or None)
    quote = case.rollout.completion.text[truth.start : truth.end]
    return Reflection(idea=truth.idea, quote=quote or None, quote_start=truth.start)
