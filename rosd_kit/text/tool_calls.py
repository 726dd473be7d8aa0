"""Finds tool calls in a response: `Action:` with `Action Input:`, and `<tool_call>` with JSON. Compares nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

#: What may stand before a label on its line: list signs, numbers, headings, quotes, bold type. Possessive: linear in the text.
_BEFORE = r"^(?:[^\S\n]|[-*+•>_`]|\#{1,6}|\d{1,3}[.)])*+"
_INPUT_LABEL = r"action(?:[ _]?\d{1,3})?[ _-]?input(?:[ _]?\d{1,3})?[*_`]{0,3}\s*+[:：][*_`]{0,3}"
_LABEL = re.compile(
    rf"{_BEFORE}(?:(?P<input>{_INPUT_LABEL})|(?P<action>action(?:[ _]?\d{{1,3}})?[*_`]{{0,3}}[^\S\n]*+[:：][*_`]{{0,3}}))"
    r"|(?P<json><tool_call>)",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE = re.compile(rf"(?<=[\s)`*.,;'\"]){_INPUT_LABEL}", re.IGNORECASE)
_VALUE = re.compile(r"\s*+(?:```[^\S\n]*+(?:json)?\s*+|`)?", re.IGNORECASE)
_FENCE = re.compile(r"\s*+(?:```(?:json)?\s*+)?")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call as it is written; `faulty` says that its input is missing or not JSON."""

    name: str
    value: object = None
    faulty: bool = False


def find_calls(text: str) -> list[ToolCall]:
    """Return the calls in order. An action has the first input behind it, if no other action comes between."""
    calls: list[ToolCall] = []
    pending: str | None = None
    position = 0
    while label := _LABEL.search(text, position):
        position = label.end()
        if label["input"]:
            if pending is not None:
                call, position = _read_input(text, pending, position)
                calls.append(call)
                pending = None
            continue
        if pending is not None:
            calls.append(ToolCall(name=pending, faulty=True))
            pending = None
        if label["json"]:
            found, position = _read_json(text, position)
            calls += found
            continue
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        inline = _INLINE.search(text, position, end)
        pending = _bare_name(text[position : inline.start() if inline else end])
        if inline:
            call, position = _read_input(text, pending, inline.end())
            calls.append(call)
            pending = None
    return calls if pending is None else [*calls, ToolCall(name=pending, faulty=True)]


def _bare_name(text: str) -> str:
    """Return the name without marks, a full stop or empty parentheses: `**get_weather()**.` calls get_weather."""
    return text.strip(" \t\r*`'\".,;").removesuffix("()").strip(" \t\r*`'\"")


def _read_input(text: str, name: str, start: int) -> tuple[ToolCall, int]:
    before = _VALUE.match(text, start)
    assert before is not None
    try:
        value, end = _DECODER.raw_decode(text, before.end())
    except (ValueError, RecursionError):
        return ToolCall(name=name, faulty=True), start
    return ToolCall(name=name, value=value), end


def _read_json(text: str, start: int) -> tuple[list[ToolCall], int]:
    """Read `{"name": ..., "arguments": ...}`, or a list of them, up to the closing tag."""
    before = _FENCE.match(text, start)
    assert before is not None
    try:
        content, end = _DECODER.raw_decode(text, before.end())
        return [_read_call(call) for call in (content if isinstance(content, list) else [content])], end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [ToolCall(name="<tool_call>", faulty=True)], start


def _read_call(call: dict[str, object]) -> ToolCall:
    (key,) = call.keys() & {"arguments", "parameters"}
    value = call[key]
    name = call["name"]
    if not isinstance(name, str):
        raise TypeError("a name is text")
    return ToolCall(name=name.strip(), value=json.loads(value) if isinstance(value, str) else value)
