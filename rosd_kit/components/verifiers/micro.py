"""The laboratory's verifier: judges the last `Answer :`."""

from __future__ import annotations

from rosd_kit.contracts import Verifier
from rosd_kit.micro.domains.base import find_answer
from rosd_kit.types import Problem, Verdict


class MicroVerifier(Verifier):
    """Compares the response's last stated answer with the right one."""

    name = "micro"
    provides = frozenset({"feedback"})

    def find_answer(self, text: str) -> str | None:
        """Return the last answer that a response states, or None."""
        return find_answer(text)

    def verify(self, problem: Problem, text: str) -> Verdict:
        answer = self.find_answer(text)
        if answer is None:
            return Verdict(score=0.0, success=False, feedback="no Answer", status="unparsable")
        right = answer == problem.answer
        feedback = f"Answer {answer} is {'Right' if right else 'Wrong'}"
        return Verdict(score=float(right), success=right, feedback=feedback, answer=answer)
