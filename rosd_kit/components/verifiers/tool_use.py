"""Tool calls: the right actions with the right inputs, in any order."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from rosd_kit.contracts import Verifier
from rosd_kit.text.tags import strip_thinking
from rosd_kit.types import Problem, Verdict

_ACTION = re.compile(r"^[^\S\n]*\**action\**[^\S\n]*:\**[^\S\n]*(.*)$", re.IGNORECASE | re.MULTILINE)
_INPUT = re.compile(r"\s*\**action[ _]?input\**[^\S\n]*:\**\s*(?:```(?:json)?\s*)?", re.IGNORECASE)
#: Deeper values are refused: nobody needs them, and comparing them would exhaust the stack.
_DEEPEST = 50

Call = tuple[str, str]


class ToolUse(Verifier):
    """Compares `Action:` / `Action Input:` pairs with the expected ones as a multiset; inputs are JSON, compared by value."""

    name = "tool_use"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """What is said of a wrong answer."""

        reveal: bool = False
        """Give the right actions in the feedback on wrong ones."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        try:
            expected = expected_calls(problem.answer)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # the data is at fault, not the response
            return Verdict(score=0.0, success=False, status="error")
        said = read_calls(strip_thinking(text))
        if not said:
            return Verdict(score=0.0, success=False, feedback="No Action was found.", status="unparsable")
        if any(value is None for _, value in said):
            broken = next(name for name, value in said if value is None)
            feedback = f"The Action Input of {broken[:80]!r} is missing or not JSON."
            return Verdict(score=0.0, success=False, feedback=feedback, status="unparsable")
        calls = Counter((name, value) for name, value in said if value is not None)
        success = calls == expected
        feedback = "" if success else _difference(calls, expected)
        if self.config.reveal and not success:
            feedback += f" The right actions are {problem.answer}"
        return Verdict(score=float(success), success=success, feedback=feedback, answer=json.dumps(sorted(calls.elements())))


def expected_calls(answer: str) -> Counter[Call]:
    """Read a dataset's answer: JSON, a list of `{"Action": name, "Action_Input": JSON in a string or a value}`.

    Raises `ValueError` for anything else.
    """
    calls: Counter[Call] = Counter()
    found = json.loads(answer)
    if not (isinstance(found, list) and found):
        raise ValueError(f"{answer[:80]!r} is no list of actions")
    for call in found:
        given = call["Action_Input"]
        calls[call["Action"].strip(), _canonical(json.loads(given) if isinstance(given, str) else given)] += 1
    return calls


def read_calls(text: str) -> list[tuple[str, str | None]]:
    """Return each action's name and its input in a canonical form; None where the input is missing or no JSON."""
    calls = []
    for action in _ACTION.finditer(text):
        begun = _INPUT.match(text, action.end())
        calls.append((action.group(1).strip(" \t\r*`'\""), _value(text, begun.end()) if begun else None))
    return calls


def _value(text: str, start: int) -> str | None:
    """Return the JSON object that begins at `start`, however nested; what follows it makes no difference."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
        return _canonical(value)
    except (ValueError, RecursionError):
        return None


def _canonical(value: Any) -> str:
    """Return one text for all spellings of a value: order of keys and 1 or 1.0 make no difference, true is not 1."""
    return json.dumps(_plain(value, 0), sort_keys=True, ensure_ascii=False)


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _difference(said: Counter[Call], expected: Counter[Call]) -> str:
    """Say what is wrong without giving the right inputs away."""
    names, wanted = Counter(name for name, _ in said.elements()), Counter(name for name, _ in expected.elements())
    if names == wanted:
        wrong = sorted({name for name, _ in (said - expected).elements()})
        return f"The input of {', '.join(wrong)} is wrong."
    if names - wanted:
        return f"Not asked for: {', '.join(sorted((names - wanted).elements()))}."[:400]
    return f"Some actions are missing: {sum((wanted - names).values())}."
