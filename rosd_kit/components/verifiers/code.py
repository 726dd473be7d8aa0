"""Programs, judged by running them in the sandbox: on inputs, by calls of a function, or under Python tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from rosd_kit.contracts import Component, Verifier
from rosd_kit.sandbox.sandbox import Ran, Sandbox
from rosd_kit.text.tags import strip_thinking
from rosd_kit.types import Problem, Verdict

_FENCE = re.compile(r"^[^\S\n]*```[^\S\n]*(\w*)[^\S\n]*$", re.MULTILINE)
_PYTHON = ("", "python", "python3", "py")
_SHOWN = 400


@dataclass(frozen=True, kw_only=True)
class ProgramTest:
    """One test: what to run besides the program, what to give it, and what must come of it (None: that it ends well)."""

    job: Mapping[str, Any]
    given: str = ""
    expected: Any = None


class Code(Verifier):
    """Runs the last fenced block of Python in a sandbox; right is what passes every test of the answer.

    The answer is JSON, `{"inputs": [...], "outputs": [...]}` or `[{"input": ..., "output": ...}]`, where inputs go to the
    standard input, or with `fn_name` to that function; or it is Python that raises where the program is wrong.
    """

    name = "code"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """How much a program may use."""

        deadline: PositiveFloat = 6.0
        """Seconds for each test."""
        memory_mib: PositiveInt = 1024
        """Most address space of a program."""
        workers: PositiveInt = 2
        """Programs that run at once."""
        reveal: bool = False
        """Show the input, the expected output and the actual one of the first test that fails."""

    @classmethod
    def build(cls, options: Any, part: Callable[[Any], Component]) -> Component:
        """Return the verifier. Raises `RunError` where this machine cannot confine a program."""
        made = cls(options)
        made._sandbox.check()
        return made

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(deadline=self.config.deadline, memory_mib=self.config.memory_mib)

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.verify_group(problem, [text])[0]

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        try:
            trials = read_trials(problem.answer)
        except (ValueError, KeyError, TypeError, RecursionError):  # the data is at fault, not the response
            return [Verdict(score=0.0, success=False, status="error") for _ in texts]
        with ThreadPoolExecutor(self.config.workers, "rosd-kit-code") as threads:
            return list(threads.map(lambda text: self._judged(read_program(text), trials), texts))

    def _judged(self, program: str | None, trials: Sequence[ProgramTest]) -> Verdict:
        if program is None:
            feedback = "No program was found in a block ```python ... ```."
            return Verdict(score=0.0, success=False, status="unparsable", feedback=feedback)
        for number, trial in enumerate(trials, start=1):
            ran = self._sandbox.run({**trial.job, "program": program}, trial.given)
            if fault := _fault(ran, trial, self.config.deadline):
                where = f" on test {number} of {len(trials)}" if len(trials) > 1 else ""
                shown = _shown(trial, ran) if self.config.reveal else ""
                return Verdict(score=0.0, success=False, feedback=f"The program {fault}{where}.{shown}")
        return Verdict(score=1.0, success=True)


def read_program(text: str) -> str | None:
    """Return the last closed block of Python after all thinking, or None."""
    marks = list(_FENCE.finditer(strip_thinking(text)))
    blocks = [(first, last) for first, last in zip(marks[::2], marks[1::2], strict=False) if first[1].lower() in _PYTHON]
    return blocks[-1][0].string[blocks[-1][0].end() + 1 : blocks[-1][1].start()] if blocks else None


def read_trials(answer: str) -> list[ProgramTest]:
    """Return the tests of an answer; raises `ValueError`, `KeyError` or `TypeError` where it holds none."""
    try:
        found = json.loads(answer)
    except ValueError:
        if not answer.strip():
            raise
        _compiled(answer)
        return [ProgramTest(job={"kind": "tests", "tests": answer})]
    name = found.get("fn_name") if isinstance(found, dict) else None
    pairs = zip(found["inputs"], found["outputs"], strict=True) if isinstance(found, dict) else _listed(found)
    trials = [_trial(name, given, expected) for given, expected in pairs]
    if not trials:
        raise ValueError("no tests")
    return trials


def _compiled(tests: str) -> None:
    try:
        compile(tests, "tests.py", "exec")
    except SyntaxError as error:
        raise ValueError(f"neither JSON nor Python: {error}") from error


def _listed(found: Any) -> list[tuple[Any, Any]]:
    return [(one["input"], one["output"]) for one in found]


def _trial(name: str | None, given: Any, expected: Any) -> ProgramTest:
    if name is None:
        texts = ["\n".join(map(str, one)) if isinstance(one, list) else str(one) for one in (given, expected)]
        return ProgramTest(job={"kind": "input"}, given=texts[0], expected=texts[1])
    written = isinstance(given, str)  # as lines of JSON, one an argument, and the value likewise
    arguments = [json.loads(line) for line in given.splitlines()] if written else list(given)
    expected = json.loads(expected) if written else expected
    return ProgramTest(job={"kind": "call", "name": name, "arguments": arguments}, expected={"value": expected})


def _fault(ran: Ran, trial: ProgramTest, deadline: float) -> str:
    """Return what is wrong, without what the test is; nothing where all is right."""
    if ran.status == "timeout":
        return f"did not end within {deadline:g} s"
    if ran.status == "flood":
        return "printed too much"
    if ran.status == "failed" and _in_tests(ran.errors):
        return "fails a test"
    if ran.status == "failed":
        return f"failed ({_cause(ran.errors)})"
    if trial.job["kind"] == "input" and not same_output(ran.output, trial.expected):
        return "gave a wrong output"
    if trial.job["kind"] == "call" and ran.result != trial.expected["value"]:
        return "returned a wrong value"
    return ""


def same_output(said: str, expected: str) -> bool:
    """Return whether two outputs are equal: line by line and word by word, numbers by value; blank ends make no difference."""
    ours, theirs = ([line.split() for line in text.rstrip().splitlines()] for text in (said, expected))
    return len(ours) == len(theirs) and all(
        len(a) == len(b) and all(x == y or _equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(ours, theirs, strict=True)
    )


def _equal(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def _in_tests(errors: str) -> bool:
    """Return whether the tests raised, and not the program within them; what they say may give the answer away."""
    return errors.rfind('File "tests.py"') > errors.rfind('File "program.py"')


def _cause(errors: str) -> str:
    """Return the last line of a traceback with the line of the program that it came from."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    places = re.findall(r'File "program\.py", line (\d+)', errors)
    return f"{lines[-1][:200] if lines else 'it ended early'}{f', line {places[-1]}' if places else ''}"


def _shown(trial: ProgramTest, ran: Ran) -> str:
    if trial.job["kind"] == "tests":
        return f"\nTests:\n{trial.job['tests'][:_SHOWN]}"
    call = trial.job["kind"] == "call"
    given = json.dumps(trial.job["arguments"]) if call else trial.given
    expected, got = (trial.expected["value"], ran.result) if call else (trial.expected, ran.output)
    return f"\nInput:\n{given[:_SHOWN]}\nExpected:\n{str(expected)[:_SHOWN]}\nGot:\n{str(got)[:_SHOWN]}"
