"""Judges tool calls: the right actions with the right inputs, in any order."""

from __future__ import annotations

import json
from collections import Counter

from rosd_kit.contracts import Verifier
from rosd_kit.errors import shortened
from rosd_kit.text.tool_calls import find_calls
from rosd_kit.types import Problem, Verdict

#: Deeper values are refused, because comparing them would exhaust the stack.
_MAX_DEPTH = 50

Call = tuple[str, str]


class ToolUse(Verifier):
    """Compares `Action:` / `Action Input:` pairs with the expected ones as a multiset; inputs are JSON, compared by value.

    Pairs may stand on one line, in lists, headings, bold type or fences.
    `<tool_call>{"name": ..., "arguments": ...}</tool_call>` is a call too.
    """

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
        surplus, lacking = _unmatched(calls, expected)
        success = not surplus and not lacking
        feedback = "" if success else _difference(surplus, lacking)
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
    return [(call.name, None if call.faulty else _canonical_or_none(call.value)) for call in find_calls(text)]


def _canonical_or_none(value: object) -> str | None:
    try:
        return _canonical(value)
    except (ValueError, RecursionError):
        return None


def _canonical(value: object) -> str:
    """Return the same text for all spellings of a value: key order is ignored, 1.0 equals 1, true does not equal 1."""
    return json.dumps(_normalise(value, 0), sort_keys=True, ensure_ascii=False)


def _normalise(value: object, depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {key: _normalise(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalise(item, depth + 1) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unmatched(calls: Counter[Call], expected: Counter[Call]) -> tuple[Counter[Call], Counter[Call]]:
    """Return the calls that were not asked for, and those that are missing.

    Arrow gives every row of a column the keys of all rows, with null for those that a row does not have. So a key that is
    null in the expected input may be missing in the call.
    """
    surplus, lacking = calls - expected, expected - calls
    for wanted in list(lacking.elements()):
        found = next(
            (call for call in surplus if call[0] == wanted[0] and _fits(json.loads(call[1]), json.loads(wanted[1]))), None
        )
        if found is not None:
            surplus, lacking = surplus - Counter([found]), lacking - Counter([wanted])
    return surplus, lacking


def _fits(value: object, expected: object) -> bool:
    """Return whether two values are equal but for keys of dicts that are null in the expected one and missing in the other."""
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() <= expected.keys() and all(
            _fits(value[key], wanted) if key in value else wanted is None for key, wanted in expected.items()
        )
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_fits, value, expected))
    return type(value) is type(expected) and value == expected


def _difference(surplus: Counter[Call], lacking: Counter[Call]) -> str:
    """Describe the difference without giving the right inputs away."""
    names, wanted = Counter(name for name, _ in surplus.elements()), Counter(name for name, _ in lacking.elements())
    if names == wanted:
        return f"The input of {', '.join(sorted(names))} is wrong."
    if names - wanted:
        return f"Not asked for: {', '.join(sorted((names - wanted).elements()))}."[:400]
    return f"Some actions are missing: {sum((wanted - names).values())}."
