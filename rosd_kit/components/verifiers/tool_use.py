"""Judges tool calls: the right actions with the right inputs, in any order."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from rosd_kit.contracts import Verifier
from rosd_kit.errors import shortened
from rosd_kit.types import Problem, Verdict

_ACTION = re.compile(r"^[^\S\n]*\**action\**[^\S\n]*:\**[^\S\n]*(.*)$", re.IGNORECASE | re.MULTILINE)
_INPUT = re.compile(r"\s*\**action[ _]?input\**[^\S\n]*:\**\s*(?:```(?:json)?\s*)?", re.IGNORECASE)
#: Deeper values are refused, because comparing them would exhaust the stack.
_MAX_DEPTH = 50

Call = tuple[str, str]


class ToolUse(Verifier):
    """Compares `Action:` / `Action Input:` pairs with the expected ones as a multiset; inputs are JSON, compared by value."""

    name = "tool_use"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """Options of `tool_use`."""

        reveal: bool = False
        """Give the right actions in the feedback on wrong ones."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        try:
            expected = expected_calls(problem.answer)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # the data is at fault, not the response
            return Verdict(score=0.0, success=False, status="error")
        actions = read_calls(text)
        if not actions:
            return Verdict(score=0.0, success=False, feedback="No Action was found.", status="unparsable")
        if any(value is None for _, value in actions):
            broken = next(name for name, value in actions if value is None)
            feedback = f"The Action Input of {broken[:80]!r} is missing or not JSON."
            return Verdict(score=0.0, success=False, feedback=feedback, status="unparsable")
        calls = Counter((name, value) for name, value in actions if value is not None)
        success = calls == expected
        feedback = "" if success else _difference(calls, expected)
        if self.config.reveal and not success:
            feedback += f" The right actions are {problem.answer}"
        return Verdict(score=float(success), success=success, feedback=feedback, answer=json.dumps(sorted(calls.elements())))

    def check_gold(self, problem: Problem) -> str | None:
        try:
            expected_calls(problem.answer)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f'{shortened(problem.answer)} is not a JSON list of {{"Action": name, "Action_Input": JSON}}'
        return None


def expected_calls(answer: str) -> Counter[Call]:
    """Parse a data set's answer: a JSON list of `{"Action": name, "Action_Input": a value, or JSON in a string}`.

    Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` for anything else.
    """
    calls: Counter[Call] = Counter()
    actions = json.loads(answer)
    if not (isinstance(actions, list) and actions):
        raise ValueError(f"{answer[:80]!r} is not a list of actions")
    for action in actions:
        value = action["Action_Input"]
        calls[action["Action"].strip(), _canonical(json.loads(value) if isinstance(value, str) else value)] += 1
    return calls


def read_calls(text: str) -> list[tuple[str, str | None]]:
    """Return each action's name and canonical input, with None for an input that is missing or not JSON."""
    calls = []
    for action in _ACTION.finditer(text):
        label = _INPUT.match(text, action.end())
        calls.append((action.group(1).strip(" \t\r*`'\""), _read_value(text, label.end()) if label else None))
    return calls


def _read_value(text: str, start: int) -> str | None:
    """Return the JSON value that starts at `start`, in canonical form; ignore the text after it."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
        return _canonical(value)
    except (ValueError, RecursionError):
        return None


def _canonical(value: object) -> str:
    """Return the same text for all spellings of a value: key order is ignored, 1.0 equals 1, true does not equal 1."""
    return json.dumps(_normalise(value, 0), sort_keys=True, ensure_ascii=False)


def _normalise(value: object, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {key: _normalise(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalise(item, depth + 1) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _difference(calls: Counter[Call], expected: Counter[Call]) -> str:
    """Describe the difference without giving the right inputs away."""
    names, wanted = Counter(name for name, _ in calls.elements()), Counter(name for name, _ in expected.elements())
    if names == wanted:
        wrong = sorted({name for name, _ in (calls - expected).elements()})
        return f"The input of {', '.join(wrong)} is wrong."
    if names - wanted:
        return f"Not asked for: {', '.join(sorted((names - wanted).elements()))}."[:400]
    return f"Some actions are missing: {sum((wanted - names).values())}."
