"""Tool calls, on real rows and on inputs that are hard to parse."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rosd_kit.components.verifiers import ToolUse
from rosd_kit.text.thinking import strip_thinking
from tests.components.rows import asking, rows

ONE = [{"Action": "find", "Action_Input": '{"size": 1, "where": {"city": "Bern", "tags": ["a", "b"]}}'}]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def judge(text: str, answer: list[dict]) -> tuple[bool, str]:
    verdict = ToolUse().verify(asking(json.dumps(answer)), text)
    assert verdict.score == float(verdict.success) and (verdict.success or verdict.feedback)
    return verdict.success, verdict.status


def as_text(calls: list[dict]) -> str:
    return "Thought: do it\n" + "\n".join(f"Action: {c['Action']}\nAction Input: {c['Action_Input']}" for c in calls)


@pytest.mark.parametrize(
    "text",
    [
        'Action: find\nAction Input: {"size": 1, "where": {"city": "Bern", "tags": ["a", "b"]}}',
        'Action: find\nAction Input: {"where": {"tags": ["a", "b"], "city": "Bern"}, "size": 1.0}\nObservation: {}',
        '**Action:** find\n**Action Input:** {"size": 1, "where": {"city": "\\u0042ern", "tags": ["a","b"]}}',
        'Action: `find`\nAction Input:\n```json\n{"size": 1,\n "where": {"city": "Bern", "tags": ["a", "b"]}}\n```',
        "<think>Action: other\nAction Input: {}</think>Action: find\n"
        'Action_Input: {"size": 1, "where": {"city": "Bern", "tags": ["a", "b"]}}',
    ],
)
def test_inputs_are_compared_by_value(text):
    assert judge(text, ONE) == (True, "ok")


@pytest.mark.parametrize(
    "value",
    [
        '{"size": true, "where": {"city": "Bern", "tags": ["a", "b"]}}',
        '{"size": "1", "where": {"city": "Bern", "tags": ["a", "b"]}}',
        '{"size": 1, "where": {"city": "Bern", "tags": ["b", "a"]}}',
        '{"size": 1, "where": {"city": "bern", "tags": ["a", "b"]}}',
        '{"size": 1}',
        "{}",
    ],
)
def test_another_value_is_wrong(value):
    assert judge(f"Action: find\nAction Input: {value}", ONE) == (False, "ok")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "find",
        "Action: find",
        "Action: find\nThought: no input",
        "Action: find\nAction Input: size=1",
        'Action: find\nAction Input: {"size": 1',
        "Action: find\nAction Input: " + "[" * 100_000,
        "Action: find\nAction Input: " + "[" * 60 + "]" * 60,
        "Action Input: {}",
        "x" * 1_000_000,
    ],
)
def test_text_without_a_valid_call_is_unparsable(text):
    assert judge(text, ONE) == (False, "unparsable")


def test_actions_are_a_multiset():
    calls = [
        {"Action": "a", "Action_Input": "{}"},
        {"Action": "a", "Action_Input": "{}"},
        {"Action": "b", "Action_Input": "{}"},
    ]
    assert judge(as_text(calls[::-1]), calls) == (True, "ok")
    assert judge(as_text(calls[1:]), calls) == (False, "ok")
    assert judge(as_text([*calls, calls[0]]), calls) == (False, "ok")


def test_feedback_says_what_is_wrong_without_revealing_the_right_input():
    def feedback(text: str) -> str:
        return ToolUse().verify(asking(json.dumps(ONE)), text).feedback

    assert feedback("Action: find\nAction Input: {}") == "The input of find is wrong."
    assert feedback("Action: seek\nAction Input: {}") == "Not asked for: seek."
    assert feedback("Action: find\nAction Input: {") == "The Action Input of 'find' is missing or not JSON."
    assert "Bern" not in feedback("Action: find\nAction Input: {}")


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans())
def test_any_value_is_equal_to_itself_in_any_spelling(value, pretty):
    text = json.dumps(value, indent=2 if pretty else None, ensure_ascii=pretty, sort_keys=pretty)
    assume(strip_thinking(text) == text)  # a thinking tag would cut the text, even inside a value
    calls = [{"Action": "a", "Action_Input": json.dumps(value)}]
    assert judge(f"Action: a\nAction Input: {text}", calls) == (True, "ok")


@given(st.text())
def test_any_text_gets_a_verdict(text):
    judge(text, ONE), judge(f"Action: find\nAction Input: {text}", ONE)


def test_in_every_real_row_only_the_reference_calls_are_right():
    data = rows("tooluse.test")
    assert len(data) == 68
    for row in data:
        calls = json.loads(row["answer"])
        assert judge(as_text(calls), calls) == (True, "ok")
        assert judge(as_text(calls[::-1]), calls) == (True, "ok")
        wrong = [{**calls[0], "Action_Input": '{"no": "such"}'}, *calls[1:]]
        assert judge(as_text(wrong), calls) == (False, "ok")
        assert judge(as_text([*calls, calls[0]]), calls) == (False, "ok")
