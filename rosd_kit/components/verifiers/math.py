"""Compares mathematical answers as expressions, with math-verify in worker processes."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from rosd_kit.contracts import Mebibytes, Seconds, Verifier, Workers
from rosd_kit.errors import RunError, shortened
from rosd_kit.sandbox import Outcome, WorkerPool
from rosd_kit.text.answers import bare_answer
from rosd_kit.text.boxes import find_boxes, joined_boxes
from rosd_kit.text.tags import read_tag
from rosd_kit.types import Problem, Verdict

#: Only the last characters of a response can contain its final answer.
_TAIL = 8000
#: A comparison that fills the caches of the parsers.
_WARM = {
    "expected": r"\frac{x+1}{2}",
    "answers": [
        {"text": r"\frac{1}{2}(x+1)", "prose": False},
        {"text": r"so it is \boxed{\frac{1}{2}(x+1)} or 3 * (4 - 1) = 9", "prose": True},
    ],
}
#: A final answer outside boxes; behind the last box, it is the one that counts.
_STATED = re.compile(r"(?i)\bfinal answer(?: is)?\s*+:?\**+\s*+\**+(?=\\?[$(\[]|-?[\d.])")
_OR = re.compile(r"(?i)\bor\b")
#: A tag's content up to this length, in characters, may be the bare answer.
_SHORT = 200


class Math(Verifier):
    """Compares the final answer with the right one as an expression: 0.5, 1/2 and \\frac{1}{2} are equal (math-verify)."""

    name = "math"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """Limits of a comparison, and where the answer must be."""

        fixed_because: ClassVar[str] = "the workers are started once"

        deadline: Seconds = 10.0
        """Time limit of one comparison, in seconds; a longer one is killed and gives status `error`, not a wrong answer."""
        workers: Workers = 2
        """Number of worker processes."""
        memory_mib: Mebibytes = 4096
        """Memory that one comparison may use, in MiB of address space."""
        boxed_only: bool = False
        """Require the answer in `\\boxed{}` (the last one counts); false: without a box, the last expression counts too."""
        reveal: bool = False
        """Give the right answer in the feedback on a wrong one."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.verify_group(problem, [text])[0]

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        jobs = [{"expected": problem.answer, "answers": self._readings(text)} for text in texts]
        right_answer = f" The right answer is {problem.answer}." if self.config.reveal else ""
        return [_verdict(outcome, right_answer) for outcome in self._pool.map(jobs)]

    def check_gold(self, problem: Problem) -> str | None:
        return None if problem.answer.strip(" $\n\t") else f"{shortened(problem.answer)} is empty"

    def _readings(self, text: str) -> list[dict[str, object]]:
        """Return the texts that may be the answer: what is in the last tag or in boxes, or the end of the response."""
        tail = text.rstrip()[-_TAIL:]
        if not self.config.boxed_only and (tagged := read_tag(tail, "answer")).text:
            tail = tagged.text
            if not find_boxes(tail) and len(tail) < _SHORT:
                prose = [] if _OR.search(tail) else [{"text": tail, "prose": True}]  # "3 or 4" does not say which
                return [{"text": tail, "prose": False}, *prose]
        if not find_boxes(tail):
            return [] if self.config.boxed_only or not tail else [{"text": tail, "prose": True}]
        if not self.config.boxed_only and (stated := _STATED.search(tail, find_boxes(tail)[-1].end)):
            return [{"text": tail[stated.start() :], "prose": True}]
        contents, alternatives = joined_boxes(tail)
        contents = [bare_answer(content) for content in contents]
        readings = [", ".join(contents)] if len(contents) > 1 else []
        if contents and not alternatives:
            readings.append(contents[-1])
        return [{"text": reading, "prose": False} for reading in readings if reading.strip()]

    @cached_property
    def _pool(self) -> WorkerPool:
        if importlib.util.find_spec("math_verify") is None:
            raise RunError('verifier=math needs math-verify, which is not installed. Run: pip install "rosd-kit[math]"')
        config = self.config
        limits = {"workers": config.workers, "deadline": config.deadline, "memory_mib": config.memory_mib}
        return WorkerPool("rosd_kit.components.verifiers.equality:compare", warm=[_WARM], **limits)


def _verdict(outcome: Outcome, right_answer: str) -> Verdict:
    if outcome.status != "ok" or not isinstance(outcome.value, dict):
        return Verdict(score=0.0, success=False, status="error", feedback="")
    if not outcome.value["parsed"]:
        return Verdict(
            score=0.0, success=False, status="unparsable", feedback="No final answer was found; put it into \\boxed{}."
        )
    right = outcome.value["right"]
    feedback = "" if right else f"The final answer is wrong.{right_answer}"
    return Verdict(score=float(right), success=right, feedback=feedback, answer=outcome.value["answer"])
