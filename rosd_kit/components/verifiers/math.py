"""Compares mathematical answers as expressions, with math-verify in worker processes."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from rosd_kit.contracts import Mebibytes, Seconds, Verifier, Workers
from rosd_kit.errors import RunError, shortened
from rosd_kit.sandbox import Outcome, WorkerPool
from rosd_kit.text.boxes import last_box
from rosd_kit.types import Problem, Verdict

#: Only the last characters of a response can contain its final answer.
_TAIL = 8000
#: A comparison that fills the caches of the parsers.
_WARM = {"expected": r"\frac{x+1}{2}", "answer": r"so it is \boxed{\frac{1}{2}(x+1)} or 3 * (4 - 1) = 9"}


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
        jobs = [{"expected": problem.answer, "answer": self._answer_text(text)} for text in texts]
        right_answer = f" The right answer is {problem.answer}." if self.config.reveal else ""
        return [_verdict(outcome, right_answer) for outcome in self._pool.map(jobs)]

    def check_gold(self, problem: Problem) -> str | None:
        return None if problem.answer.strip(" $\n\t") else f"{shortened(problem.answer)} is empty"

    def _answer_text(self, text: str) -> str:
        """Return the text that may contain the answer: the last box, or the end of the response if no box is needed."""
        tail = text.rstrip()[-_TAIL:]
        box = last_box(tail)
        if box is None:
            return "" if self.config.boxed_only else tail
        return f"\\boxed{{{box}}}" if box.strip() else ""

    @cached_property
    def _pool(self) -> WorkerPool:
        if importlib.util.find_spec("math_verify") is None:
            raise RunError('verifier=math needs math-verify, which is not installed. Run: pip install "rosd-kit[math]"')
        config = self.config
        limits = {"workers": config.workers, "deadline": config.deadline, "memory_mib": config.memory_mib}
        return WorkerPool(f"{__name__}:compare", warm=[_WARM], **limits)


def compare(job: dict[str, str]) -> dict[str, Any]:
    """Parse an answer and compare it with the expected one. Runs in a worker process, which enforces the deadline."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # both warn that they run without a timeout
    expected = parse(f"${job['expected']}$", parsing_timeout=None) or parse(job["expected"], parsing_timeout=None)
    if not expected:
        raise ValueError(f"the data set's answer {job['expected'][:80]!r} is not a mathematical expression")
    answer = parse(job["answer"], parsing_timeout=None)
    right = bool(answer) and bool(verify(expected, answer, timeout_seconds=None))
    return {"parsed": bool(answer), "right": right, "answer": str(answer[0])[:_TAIL] if answer else None}


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
