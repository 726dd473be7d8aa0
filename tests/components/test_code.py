"""Programs as answers: which are right, the feedback on wrong ones, and programs that cheat."""

from __future__ import annotations

import json

import pytest

from rosd_kit.components.verifiers import Code
from rosd_kit.components.verifiers.code import read_program, read_tests, same_output, same_value
from rosd_kit.errors import RunError
from rosd_kit.text.thinking import strip_thinking
from tests.components.rows import asking

DOUBLE = json.dumps({"inputs": ["2\n", "21\n"], "outputs": ["4\n", "42\n"]})
PAIRS = json.dumps([{"input": ["1", "2"], "output": "3"}, {"input": "5\n5", "output": "10"}])
CALLS = json.dumps({"fn_name": "add", "inputs": [[1, 2], ["a", "b"]], "outputs": [3, "ab"]})
LINES = json.dumps({"fn_name": "add", "inputs": ["[1]\n[2]"], "outputs": ["[1, 2]"]})
TESTS = "assert add(1, 2) == 3, 'the secret is 3'\nassert add(1, 1) == 2"


@pytest.fixture(scope="module")
def verifier():
    try:
        return Code.build(Code.Config(deadline=20), lambda choice: None)
    except RunError as error:
        pytest.skip(f"no sandbox here: {error}")


def block(program: str) -> str:
    return f"Here it is:\n```python\n{program}\n```\nDone."


ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (DOUBLE, "print(int(input()) * 2)"),
        (DOUBLE, "print(f'{int(input()) * 2}.0  ')\nprint()"),
        (PAIRS, "print(int(input()) + int(input()))"),
        (CALLS, ADD),
        (CALLS, "class Solution:\n    def add(self, a, b): return a + b"),
        (LINES, ADD),
        (TESTS, ADD),
        (TESTS, f"{ADD}\nif __name__ == '__main__': raise SystemExit(1)"),
    ],
)
def test_right_programs(verifier, answer, program):
    verdict = verifier.verify(asking(answer), block(program))
    assert (verdict.success, verdict.score, verdict.status) == (True, 1.0, "ok"), verdict.feedback


@pytest.mark.parametrize(
    ("answer", "program", "feedback"),
    [
        (DOUBLE, "print(4)", "The program gave a wrong output on test 2 of 2."),
        (DOUBLE, "print(1 / 0)", "The program failed (ZeroDivisionError: division by zero, line 1) on test 1 of 2."),
        (DOUBLE, "print(", "The program failed (SyntaxError: '(' was never closed, line 1) on test 1 of 2."),
        (CALLS, "def add(a, b): return 3", "The program returned a wrong value on test 2 of 2."),
        (CALLS, "def plus(a, b): return 3", "The program failed (KeyError: 'Solution') on test 1 of 2."),
        (TESTS, "def add(a, b): return 0", "The program fails a test."),
        (TESTS, "def add(a, b): raise ValueError('no')", "The program failed (ValueError: no, line 1)."),
        (TESTS, "raise SystemExit(0)", "The program failed (it ended early)."),
        (TESTS, "import os\nos._exit(0)", "The program failed (it ended early)."),
        (
            DOUBLE,
            "open('/etc/passwd')",
            "The program failed (PermissionError: [Errno 13] Permission denied: '/etc/passwd', line 1)",
        ),
    ],
)
def test_wrong_programs_and_their_feedback(verifier, answer, program, feedback):
    verdict = verifier.verify(asking(answer), block(program))
    assert (verdict.success, verdict.score, verdict.status) == (False, 0.0, "ok")
    assert verdict.feedback.startswith(feedback) and "secret" not in verdict.feedback and "42" not in verdict.feedback


def test_feedback_shows_the_first_failing_test_on_request(verifier):
    feedback = Code(Code.Config(deadline=20, reveal=True)).verify(asking(DOUBLE), block("print(5)")).feedback
    assert feedback == "The program gave a wrong output on test 1 of 2.\nInput:\n2\n\nExpected:\n4\n\nGot:\n5\n"


def test_a_program_that_runs_forever_is_wrong(verifier):
    verdict = Code(Code.Config(deadline=1)).verify(asking(DOUBLE), block("while True: pass"))
    assert (verdict.success, verdict.status, verdict.feedback) == (
        False,
        "ok",
        "The program did not end within 1 s on test 1 of 2.",
    )


def test_a_group_is_judged_in_order(verifier):
    texts = [block(f"print(int(input()) * {n})") for n in (1, 2, 3)]
    assert [v.success for v in verifier.verify_group(asking(DOUBLE), [*texts, ""])] == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```py\na\n```\nor\n```\nb\n```", "b\n"),
        ("```python\na\n```\n```json\n{}\n```", "a\n"),
        ("<think>```python\na\n```</think>```python\nb\n```", "b\n"),
        ("<think>```python\na\n```", None),
        ("```python\na", None),
        ("print(1)", None),
        ("", None),
        ("`" * 1_000_000, None),
        ("```\n" * 300_001, ""),
        ("\u202e```python\na\n```", None),
    ],
)
def test_the_last_closed_block_counts(text, program):
    assert read_program(strip_thinking(text)) == program


@pytest.mark.parametrize(
    "answer", ["", "5", "{}", "[]", '{"inputs": [1], "outputs": []}', "not python (", '{"fn_name": "f"}', "[" * 9999]
)
def test_a_reference_answer_without_tests_gives_status_error(verifier, answer):
    assert verifier.verify(asking(answer), block("print(1)")).status == "error"


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [("1 2\n3\n\n", "1  2 \n3", True), ("0.50", "0.5", True), ("1e3", "1000", True), ("1\n2", "1 2", False), ("A", "a", False),
     ("", "", True), ("nan", "nan", True), ("1", "1 1", False), ("0.1", "0.10000001", False)],
)  # fmt: skip
def test_outputs_are_compared_word_by_word(output, expected, same):
    assert same_output(output, expected) is same


def test_expected_outputs_never_enter_the_sandbox():
    for answer in (DOUBLE, CALLS):
        for test in read_tests(answer):
            assert not {"expected", "outputs"} & test.job.keys() and "42" not in json.dumps(test.job)


@pytest.mark.parametrize(
    ("actual", "expected"), [("١", "1"), ("1_0", "10"), ("１", "1"), ("a\u2028b", "a\nb"), ("−1", "-1"), ("True", "1")]
)
def test_output_is_compared_exactly(actual, expected):
    assert not same_output(actual, expected)


def test_a_returned_truth_value_is_no_number():
    assert same_value([1, {"a": 2.0}], [1.0, {"a": 2}])
    assert not same_value(True, 1) and not same_value([0], [False]) and not same_value({"a": 1}, {"a": 1, "b": None})
