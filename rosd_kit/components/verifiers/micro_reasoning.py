"""The second laboratory's verifier: judges the last `Answer :`, which names everyone's place in any order."""

from __future__ import annotations

from rosd_kit.contracts import Verifier
from rosd_kit.micro.reasoning.text import find_answer
from rosd_kit.types import Problem, Verdict


class MicroReasoningVerifier(Verifier):
    """Compares the places in the response's last answer with the right ones."""

    name = "micro_reasoning"
    provides = frozenset({"feedback"})

    def verify(self, problem: Problem, text: str) -> Verdict:
        answer = find_answer(text)
        if answer is None:
            return Verdict(score=0.0, success=False, feedback="no Answer", status="unparsable")
        right = answer == problem.answer
        feedback = f"Answer {answer} is {'right' if right else 'wrong'}"
        return Verdict(score=float(right), success=right, feedback=feedback, answer=answer)
