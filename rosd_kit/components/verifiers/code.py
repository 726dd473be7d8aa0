"""Judges programs by running them in the sandbox: on inputs, by calling a function, or against Python tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar

from rosd_kit.contracts import Component, Mebibytes, Seconds, Verifier, Workers
from rosd_kit.errors import shortened
from rosd_kit.sandbox.sandbox import Job, ProgramResult, Sandbox
from rosd_kit.types import Problem, Verdict

#: Possessive, so that a fence with many spaces takes linear time.
_FENCE = re.compile(r"^[^\S\n]*+```[^\S\n]*+(\w*+)[^\S\n]*+$", re.MULTILINE)
_WORD = re.compile(r"[^ \t\r\f\v]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,6})?")
_PYTHON = ("", "python", "python3", "py")
#: Longest input or output in a feedback, in characters.
_FEEDBACK_LIMIT = 400


@dataclass(frozen=True, kw_only=True)
class ProgramTest:
    """One test: the sandbox job, the program's standard input, and the expected result (None: only that it succeeds)."""

    job: Job
    stdin: str = ""
    expected: Any = None  # the output, or `{"value": ...}` of any JSON value


class Code(Verifier):
    """Runs the last fenced block of Python in a sandbox; it is right if it passes every test in the answer.

    The answer is JSON, `{"inputs": [...], "outputs": [...]}` or `[{"input": ..., "output": ...}]`, whose inputs go to
    standard input, or with `fn_name` to that function. Or it is Python that raises if the program is wrong.
    """

    name = "code"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """Limits of a program."""

        fixed_because: ClassVar[str] = "the workers are started once"

        deadline: Seconds = 6.0
        """Time limit of each test, in seconds."""
        memory_mib: Mebibytes = 1024
        """Address space limit of a program, in MiB."""
        workers: Workers = 2
        """Number of programs that run at once."""
        reveal: bool = False
        """Show the input, expected output and actual output of the first failing test in the feedback."""

    @classmethod
    def build(cls, options: object, part: Callable[[object], Component]) -> Component:
        """Return the verifier. Raises `RunError` if this machine cannot sandbox a program."""
        verifier = cls(options)
        verifier._sandbox.check()
        return verifier

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(deadline=self.config.deadline, memory_mib=self.config.memory_mib)

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.verify_group(problem, [text])[0]

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        try:
            tests = read_tests(problem.answer)
        except (ValueError, KeyError, TypeError, RecursionError):  # the data is at fault, not the response
            return [Verdict(score=0.0, success=False, status="error") for _ in texts]
        with ThreadPoolExecutor(self.config.workers, "rosd-kit-code") as threads:
            return list(threads.map(lambda text: self._judge(read_program(text), tests), texts))

    def check_gold(self, problem: Problem) -> str | None:
        try:
            read_tests(problem.answer)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return f"{shortened(problem.answer)} holds no tests that can be read ({type(error).__name__}: {error})"
        return None

    def _judge(self, program: str | None, tests: Sequence[ProgramTest]) -> Verdict:
        if program is None:
            feedback = "No program was found in a block ```python ... ```."
            return Verdict(score=0.0, success=False, status="unparsable", feedback=feedback)
        for number, test in enumerate(tests, start=1):
            result = self._sandbox.run({**test.job, "program": program}, test.stdin)
            if fault := _fault(result, test, self.config.deadline):
                where = f" on test {number} of {len(tests)}" if len(tests) > 1 else ""
                details = _details(test, result) if self.config.reveal else ""
                return Verdict(score=0.0, success=False, feedback=f"The program {fault}{where}.{details}")
        return Verdict(score=1.0, success=True)


def read_program(text: str) -> str | None:
    """Return the last closed block of Python, or None if there is none."""
    fences = list(_FENCE.finditer(text))
    blocks = [(first, last) for first, last in zip(fences[::2], fences[1::2], strict=False) if first[1].lower() in _PYTHON]
    if not blocks:
        return None
    first, last = blocks[-1]
    return text[first.end() + 1 : last.start()]


def read_tests(answer: str) -> list[ProgramTest]:
    """Return the tests in an answer. Raises `ValueError`, `KeyError` or `TypeError` if it has none."""
    try:
        content = json.loads(answer)
    except ValueError:
        if not answer.strip():
            raise
        _check_python(answer)
        return [ProgramTest(job={"kind": "tests", "tests": answer})]
    if isinstance(content, dict):
        function, pairs = content.get("fn_name"), list(zip(content["inputs"], content["outputs"], strict=True))
    else:
        function, pairs = None, [(test["input"], test["output"]) for test in content]
    if not pairs:
        raise ValueError("no tests")
    return [_read_test(function, given, expected) for given, expected in pairs]


def _check_python(tests: str) -> None:
    try:
        compile(tests, "tests.py", "exec")
    except SyntaxError as error:
        raise ValueError(f"neither JSON nor Python: {error}") from error


def _read_test(function: str | None, given: Any, expected: Any) -> ProgramTest:  # of parsed JSON
    if function is None:
        stdin, output = ("\n".join(map(str, value)) if isinstance(value, list) else str(value) for value in (given, expected))
        return ProgramTest(job={"kind": "input"}, stdin=stdin, expected=output)
    as_json = isinstance(given, str)  # one line of JSON per argument, and JSON for the expected value
    arguments = [json.loads(line) for line in given.splitlines()] if as_json else list(given)
    expected = json.loads(expected) if as_json else expected
    return ProgramTest(job={"kind": "call", "name": function, "arguments": arguments}, expected={"value": expected})


def _fault(result: ProgramResult, test: ProgramTest, deadline: float) -> str:
    """Return what went wrong without giving the test away, or an empty string if nothing did."""
    if result.status == "timeout":
        return f"did not end within {deadline:g} s"
    if result.status == "flood":
        return "printed too much"
    if result.status == "failed" and _in_tests(result.errors):
        return "fails a test"
    if result.status == "failed":
        return f"failed ({_cause(result.errors)})"
    if test.job["kind"] == "input" and not same_output(result.output, test.expected):
        return "gave a wrong output"
    if test.job["kind"] == "call" and not same_value(result.value, test.expected["value"]):
        return "returned a wrong value"
    return ""


def same_output(actual: str, expected: str) -> bool:
    """Return whether two outputs are equal, word by word in each line; numbers by value, white space at the end ignored.

    Characters are compared exactly: Arabic digits or `1_0` are no numbers here, and no sign stands for another.
    """
    ours, theirs = ([_WORD.findall(line) for line in text.rstrip(" \t\r\n\f\v").split("\n")] for text in (actual, expected))
    return len(ours) == len(theirs) and all(
        len(a) == len(b) and all(x == y or _equal_numbers(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(ours, theirs, strict=True)
    )


def same_value(actual: object, expected: object) -> bool:
    """Return whether two JSON values are equal; 1 is 1.0, but true is not 1."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same_value, actual, expected))
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(same_value(actual[key], expected[key]) for key in actual)
    return actual == expected


def _equal_numbers(a: str, b: str) -> bool:
    return bool(_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)) and Decimal(a) == Decimal(b)


def _in_tests(errors: str) -> bool:
    """Return whether the tests raised rather than the program; their error message may give the answer away."""
    return errors.rfind('File "tests.py"') > errors.rfind('File "program.py"')


def _cause(errors: str) -> str:
    """Return the last line of a traceback, with the program line that raised."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    line_numbers = re.findall(r'File "program\.py", line (\d+)', errors)
    return f"{lines[-1][:200] if lines else 'it ended early'}{f', line {line_numbers[-1]}' if line_numbers else ''}"


def _details(test: ProgramTest, result: ProgramResult) -> str:
    if test.job["kind"] == "tests":
        return f"\nTests:\n{test.job['tests'][:_FEEDBACK_LIMIT]}"
    call = test.job["kind"] == "call"
    given = json.dumps(test.job["arguments"]) if call else test.stdin
    expected, got = (test.expected["value"], result.value) if call else (test.expected, result.output)
    return (
        f"\nInput:\n{given[:_FEEDBACK_LIMIT]}\nExpected:\n{str(expected)[:_FEEDBACK_LIMIT]}\nGot:\n{str(got)[:_FEEDBACK_LIMIT]}"
    )
