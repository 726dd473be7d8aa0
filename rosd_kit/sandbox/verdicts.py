"""Verdicts from the sandbox: a verifier's methods that run there, and what they return, which may be anything."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import pydantic

from rosd_kit.sandbox import isolation
from rosd_kit.sandbox.failures import log_failure
from rosd_kit.sandbox.pool import Outcome
from rosd_kit.types import Problem, Verdict

_VERDICT = pydantic.TypeAdapter(Verdict)
#: A method of a verifier; the first argument is the verifier, of a class that only its package knows.
Verify = Callable[[Any, Problem, str], Verdict]
VerifyGroup = Callable[[Any, Problem, Sequence[str]], list[Verdict]]


class _Verifier(isolation.Confined, Protocol):
    sandboxed: ClassVar[bool]


def sandboxed_verify(verify: Verify) -> Verify:
    """Return a verifier's `verify` that runs in the sandbox, and directly once it is there."""

    @functools.wraps(verify)
    def call(self: _Verifier, problem: Problem, text: str) -> Verdict:
        if isolation.is_inside() or not self.sandboxed:
            return verify(self, problem, text)
        return verdicts_of_each(self, problem, [text])[0]

    call.__dict__["runs_in_sandbox"] = True
    return call


def sandboxed_verify_group(verify_group: VerifyGroup) -> VerifyGroup:
    """Return a verifier's `verify_group` that runs in the sandbox, and directly once it is there."""

    @functools.wraps(verify_group)
    def call(self: _Verifier, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        if isolation.is_inside() or not self.sandboxed:
            return verify_group(self, problem, texts)
        (outcome,) = _call_each(self, "verify_group", [(problem, list(texts))])
        values = outcome.value if isinstance(outcome.value, list) and len(outcome.value) == len(texts) else [None] * len(texts)
        return [_verdict_of(self, problem, replace(outcome, value=value)) for value in values]

    call.__dict__["runs_in_sandbox"] = True
    return call


def is_sandboxed(method: Callable[..., object]) -> bool:
    """Return whether a method is one that `sandboxed_verify` or `sandboxed_verify_group` returned, or a wrapper of it."""
    return bool(getattr(method, "runs_in_sandbox", False))


def verdicts_of_each(verifier: isolation.Confined, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
    """Judge each text by itself in the sandbox."""
    outcomes = _call_each(verifier, "verify", [(problem, text) for text in texts])
    return [_verdict_of(verifier, problem, outcome) for outcome in outcomes]


def _call_each(verifier: isolation.Confined, method: str, arguments: Sequence[tuple[Problem, object]]) -> list[Outcome]:
    return isolation.call_each(verifier, method, arguments)


def _verdict_of(verifier: isolation.Confined, problem: Problem, outcome: Outcome) -> Verdict:
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
    log_failure(verifier, verifier.name, problem.id, f"{outcome.status} {detail}")
    return Verdict(score=0.0, success=False, status="error")
