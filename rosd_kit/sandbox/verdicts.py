"""Verdicts from the sandbox: a verifier's methods that run there, and what they return, which may be anything."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pydantic

from rosd_kit.sandbox import isolation
from rosd_kit.sandbox.pool import Outcome
from rosd_kit.types import Problem, Verdict

_VERDICT = pydantic.TypeAdapter(Verdict)
_log = logging.getLogger(__name__)


def sandboxed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a verifier's `verify` or `verify_group` that runs in the sandbox, and directly once it is there."""

    @functools.wraps(method)
    def call(self: Any, problem: Problem, given: Any) -> Any:
        if isolation.is_inside() or not self.sandboxed:
            return method(self, problem, given)
        if method.__name__ == "verify":
            return verdicts_of_each(self, problem, [given])[0]
        (outcome,) = _call_each(self, "verify_group", [(problem, list(given))])
        values = outcome.value if isinstance(outcome.value, list) and len(outcome.value) == len(given) else [None] * len(given)
        return [_verdict_of(self, problem, replace(outcome, value=value)) for value in values]

    call.__dict__["runs_in_sandbox"] = True
    return call


def is_sandboxed(method: Callable[..., object]) -> bool:
    """Return whether a method is one that `sandboxed` returned, or a wrapper of it."""
    return bool(getattr(method, "runs_in_sandbox", False))


def verdicts_of_each(verifier: Any, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
    """Judge each text by itself in the sandbox."""
    outcomes = _call_each(verifier, "verify", [(problem, text) for text in texts])
    return [_verdict_of(verifier, problem, outcome) for outcome in outcomes]


def _call_each(verifier: Any, method: str, arguments: Sequence[tuple[object, ...]]) -> list[Outcome]:
    options = verifier.config
    return isolation.call_each(
        verifier, method, arguments, workers=options.workers, deadline=options.deadline, memory_mib=options.memory_mib
    )


def _verdict_of(verifier: Any, problem: Problem, outcome: Outcome) -> Verdict:
    """Return the verdict that a call gave, or one with status `error` if it gave none."""
    detail = outcome.detail
    if outcome.status == "ok":
        try:
            verdict = _VERDICT.validate_python(outcome.value)
        except pydantic.ValidationError:
            pass
        else:
            if 0.0 <= verdict.score <= 1.0 and (verdict.status == "ok" or not verdict.success):
                return verdict
        detail = f"no valid verdict: {outcome.value!r:.200}"
    _log.warning("verifier %s on problem %s: %s %s", verifier.name, problem.id, outcome.status, detail)
    return Verdict(score=0.0, success=False, status="error")
