"""The slot `verifier`: judges completions, without their thinking, and in a sandbox if it asks for one."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from rosd_kit.contracts.component import Component, Mebibytes, Seconds, Workers, add_options
from rosd_kit.options import Config as Options
from rosd_kit.sandbox import isolation
from rosd_kit.sandbox.verdicts import (
    Verify,
    VerifyGroup,
    is_sandboxed,
    sandboxed_verify,
    sandboxed_verify_group,
    verdicts_of_each,
)
from rosd_kit.types import Completion, Problem, Verdict


class Verifier(Component):
    """Judges completions.

    `verify` and `verify_group` receive texts without thinking, whoever calls them: the base class removes it. A verifier
    that judges the thinking itself, for example its form, sets `reads_thinking`.

    Set `sandboxed` if judging may run code or loop depending on the text: `verify` and `verify_group` then run in worker
    processes that can read only Python's files and packages, write nothing, and reach neither the network nor other
    processes. Each call is a fork of a process that has built the verifier once, so calls leave nothing behind. A call that
    exceeds the option `deadline`, crashes or raises gives a verdict with status `error`; the other calls go on. Problems and
    verdicts cross between processes, so `meta` must be picklable, and the class must be in a file.
    """

    kind = "verifier"
    reads_thinking: ClassVar[bool] = False
    sandboxed: ClassVar[bool] = False

    class Config(Options):
        """Options of every verifier."""

        truncated: Literal["wrong", "score"] = "wrong"
        """What a response that was cut off at the length limit counts as. `wrong`: if the verifier finds the text so far right,
        it is wrong all the same, with score 0 (partial credit for a wrong one stays); `score`: what the verifier says."""

    class SandboxConfig(Config):
        """Options of every verifier with `sandboxed`."""

        fixed_because: ClassVar[str] = "the workers are started once"

        deadline: Seconds = 10.0
        """Time limit of one call in the sandbox, in seconds; beyond it, the verdict has status `error`."""
        workers: Workers = 2
        """Number of responses that are judged at once."""
        memory_mib: Mebibytes = 2048
        """Memory that one call may use, in MiB of address space."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        add_options(cls, Verifier.Config)
        if cls.sandboxed:
            add_options(cls, Verifier.SandboxConfig)
        for name, wrap in (("verify", _verify_answer), ("verify_group", _verify_answers)):
            method, inherited = vars(cls).get(name), getattr(cls, name)
            if cls.sandboxed and not is_sandboxed(inherited) and inherited is not getattr(Verifier, name):
                setattr(cls, name, wrap(method or inherited, in_sandbox=True))
            elif method:
                setattr(cls, name, wrap(method, in_sandbox=False))

    def prepare(self, problem: Problem) -> None:
        """Load what judging this problem needs, once, for the calls in the sandbox to share.

        Called before each of them, in the process that they are forked from, which no response ever reaches.
        """
        return None

    @abstractmethod
    def verify(self, problem: Problem, text: str) -> Verdict:
        """Judge one completion's text. Must not raise on any text: garbage gets the status `unparsable`."""

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """Judge all completions of one problem at once. Override this for group verifiers, for example a majority vote."""
        if self.sandboxed and not isolation.is_inside():
            answers = list(texts) if self.reads_thinking else [self.without_thinking(text) for text in texts]
            return verdicts_of_each(self, problem, answers)
        return [self.verify(problem, text) for text in texts]

    def check_gold(self, problem: Problem) -> str | None:
        """Return why no response to this problem can be right, or None if one can or if that is unknown.

        Called for each row when data is loaded, so it must be fast. The text continues the sentence "the right answer ...":
        "'E' is not one of the letters ABCD (verifier.letters)".
        """
        return None

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """Judge one completion: its text by `verify`, and by the option `truncated` if it was cut off. Evaluations call it."""
        return self._counted(completion, self.verify(problem, self._judged(completion)))

    def judge_group(self, problem: Problem, completions: Sequence[Completion]) -> list[Verdict]:
        """Judge all completions of one problem: like `judge`, but their texts by `verify_group`. Training steps call it."""
        verdicts = self.verify_group(problem, [self._judged(completion) for completion in completions])
        if len(verdicts) != len(completions):
            return verdicts  # the caller says what is wrong with it
        return [self._counted(completion, verdict) for completion, verdict in zip(completions, verdicts, strict=True)]

    def _judged(self, completion: Completion) -> str:
        return completion.text if self.reads_thinking else self.text_of(completion)

    def _counted(self, completion: Completion, verdict: Verdict) -> Verdict:
        """Return what a verdict counts as: a completion that was cut off has no final answer, whatever it says so far."""
        if completion.finish_reason != "length" or not verdict.success or self.config.truncated == "score":
            return verdict
        if not 0.0 <= verdict.score <= 1.0:  # also false for NaN: for the caller to refuse
            return verdict
        return Verdict(score=0.0, success=False, status="unparsable", feedback="The response was cut off before its end.")


def _verify_answer(verify: Verify, *, in_sandbox: bool) -> Verify:
    judge = sandboxed_verify(verify) if in_sandbox else verify

    @functools.wraps(verify)
    def verify_answer(self: Verifier, problem: Problem, text: str) -> Verdict:
        return judge(self, problem, text if self.reads_thinking else self.without_thinking(text))

    return verify_answer


def _verify_answers(verify_group: VerifyGroup, *, in_sandbox: bool) -> VerifyGroup:
    judge = sandboxed_verify_group(verify_group) if in_sandbox else verify_group

    @functools.wraps(verify_group)
    def verify_answers(self: Verifier, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return judge(self, problem, list(texts) if self.reads_thinking else [self.without_thinking(t) for t in texts])

    return verify_answers
