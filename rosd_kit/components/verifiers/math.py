"""Mathematical answers, compared as expressions by math-verify in processes of their own."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from rosd_kit.contracts import Verifier
from rosd_kit.errors import RunError
from rosd_kit.sandbox import Outcome, WorkerPool
from rosd_kit.text.boxes import last_box
from rosd_kit.text.tags import strip_thinking
from rosd_kit.types import Problem, Verdict

#: Only the end of a response can hold its final answer.
_TAIL = 8000


class Math(Verifier):
    """Compares the final answer with the right one as expressions: 0.5, 1/2 and \\frac{1}{2} are the same (math-verify)."""

    name = "math"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """How long and where answers are compared."""

        deadline: PositiveFloat = 10.0
        """Seconds for one comparison; a longer one is killed and counts as an error, not as a wrong answer."""
        workers: PositiveInt = 2
        """Processes that compare."""
        memory_mib: PositiveInt = 4096
        """Most address space of one process."""
        boxed_only: bool = False
        """The answer must be in `\\boxed{}`, of which the last counts; false: without a box, a last expression counts too."""
        reveal: bool = False
        """Give the right answer in the feedback on a wrong one."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self.verify_group(problem, [text])[0]

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        asked = [{"right": problem.answer, "said": self._said(text)} for text in texts]
        told = f" The right answer is {problem.answer}." if self.config.reveal else ""
        return [_verdict(outcome, told) for outcome in self._pool.map(asked)]

    def _said(self, text: str) -> str:
        """Return what may hold a response's answer: its last box, or where none is needed, its end."""
        tail = strip_thinking(text).rstrip()[-_TAIL:]
        box = last_box(tail)
        if box is None:
            return "" if self.config.boxed_only else tail
        return f"\\boxed{{{box}}}" if box.strip() else ""

    @cached_property
    def _pool(self) -> WorkerPool:
        if importlib.util.find_spec("math_verify") is None:
            raise RunError('verifier=math needs math-verify, which is not installed. Run: pip install "rosd-kit[math]"')
        config = self.config
        return WorkerPool(f"{__name__}:compare", workers=config.workers, deadline=config.deadline, memory_mib=config.memory_mib)


def compare(asked: dict[str, str]) -> dict[str, Any]:
    """Return whether an answer could be read, and whether it is right; runs in a worker, which has the deadline."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # both say that they have no deadline of their own
    right = parse(f"${asked['right']}$", parsing_timeout=None) or parse(asked["right"], parsing_timeout=None)
    if not right:
        raise ValueError(f"the data set's answer {asked['right'][:80]!r} is no mathematical expression")
    said = parse(asked["said"], parsing_timeout=None)
    right_too = bool(said) and bool(verify(right, said, timeout_seconds=None))
    return {"read": bool(said), "right": right_too, "said": str(said[0])[:_TAIL] if said else None}


def _verdict(outcome: Outcome, told: str) -> Verdict:
    if outcome.status != "ok":
        return Verdict(score=0.0, success=False, status="error", feedback="")
    if not outcome.value["read"]:
        return Verdict(
            score=0.0, success=False, status="unparsable", feedback="No final answer was found; put it into \\boxed{}."
        )
    right = outcome.value["right"]
    feedback = "" if right else f"The final answer is wrong.{told}"
    return Verdict(score=float(right), success=right, feedback=feedback, answer=outcome.value["said"])
