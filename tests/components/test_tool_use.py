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


@pytest.mark.parametrize(
    "text",
    [
        'Action: f Action Input: {"x": 1}',
        '1. Action: f\n   Action Input: {"x": 1}',
        '1) Action: f\n2) Action Input: {"x": 1}',
        '- Action: f\n- Action Input: {"x": 1}',
        '### Action: f\n### Action Input: {"x": 1}',
        '**Action:** f\n**Action Input:** {"x": 1}',
        '> *Action*: `f`\n> *Action Input*: `{"x": 1}`',
        'Action 1: f\nAction Input 1: {"x": 1}',
        'Action: f()\nAction Input: {"x": 1}',
        'Action: f.\nAction Input: {"x": 1}',
        'Action: f\nI look it up.\nAction Input: {"x": 1}',
        'Action: f\r\nAction Input: {"x": 1}\r\n',
        '```\nAction: f\nAction Input: {"x": 1}\n```',
        'Action: f\nAction Input: ```json\n{"x": 1}\n```',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
        '<tool_call>```json\n[{"name": "f", "parameters": {"x": 1}}]\n```</tool_call>',
    ],
)
def test_a_call_is_read_in_every_form_whose_meaning_is_certain(text):
    assert judge(text, [{"Action": "f", "Action_Input": {"x": 1}}]) == (True, "ok")


@pytest.mark.parametrize(
    "text",
    [
        'Action: f or g\nAction Input: {"x": 1}',
        'Action: f\nAction Input: {"x": 1}\nAction: f\nAction Input: {"x": 2}',
        'Action: f\nAction: g\nAction Input: {"x": 1}',
        "Action: f\nAction Input: {'x': 1}",
        '<tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": 1}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>\nAction: f\nAction Input: {"x": 1}',
    ],
)
def test_an_ambiguous_or_broken_call_is_not_right(text):
    assert not judge(text, [{"Action": "f", "Action_Input": {"x": 1}}])[0]


def test_labels_inside_an_input_are_part_of_it():
    value = {"q": "what's an Action Input: {}?", "s": "\\n} )]"}
    calls = [{"Action": "f", "Action_Input": value}, {"Action": "g", "Action_Input": {}}]
    assert judge(f"Action: f Action Input: {json.dumps(value)}\nAction: g\nAction Input: {{}}", calls) == (True, "ok")


def test_a_key_that_is_null_in_the_data_may_be_missing_in_the_call():
    filled = [{"Action": "f", "Action_Input": {"city": "Rome", "a": None, "where": [{"b": 1, "c": None}]}}]
    assert judge('Action: f\nAction Input: {"city": "Rome", "where": [{"b": 1}]}', filled) == (True, "ok")
    assert judge('Action: f\nAction Input: {"city": "Rome", "a": null, "where": [{"b": 1}]}', filled) == (True, "ok")
    assert judge('Action: f\nAction Input: {"city": "Rome", "a": 2, "where": [{"b": 1}]}', filled) == (False, "ok")
    assert judge('Action: f\nAction Input: {"city": "Rome", "d": null, "where": [{"b": 1}]}', filled) == (False, "ok")
    assert judge('Action: f\nAction Input: {"where": [{"b": 1}]}', filled) == (False, "ok")
