"""Judges by reasoning-gym's own scores, with a threshold.

Several of its scorers evaluate the answer as Python, so judging runs in the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pydantic import Field

from rosd_kit.contracts import Verifier
from rosd_kit.text.tags import read_tag
from rosd_kit.types import JsonObject, Problem, Verdict


class GymVerifier(Verifier):
    """Scores the text in `<answer>...</answer>` by the rules of the problem's kind; wrong answers may score above 0."""

    name = "reasoning_gym"
    sandboxed = True
    needs = frozenset({"gym_entry"})
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """The form of an answer, and when it counts as right."""

        threshold: float = Field(default=0.99, gt=0.0, le=1.0)
        """Minimum score of a success."""
        tag: str = Field(default="answer", pattern=r"^[a-z_]+$")
        """Name of the tag around the answer."""

    def prepare(self, problem: Problem) -> None:
        _scorer(problem.meta["kind"])

    def verify(self, problem: Problem, text: str) -> Verdict:
        answer = read_tag(text, self.config.tag).text
        if answer is None:
            feedback = f"No answer was found in <{self.config.tag}>...</{self.config.tag}>."
            return Verdict(score=0.0, success=False, status="unparsable", feedback=feedback)
        try:
            score = float(_scorer(problem.meta["kind"])(answer, problem.meta["entry"]))
        except Exception:  # the parser of a kind may raise anything on unexpected text
            return Verdict(score=0.0, success=False, status="unparsable", feedback="The answer could not be read.")
        success = score >= self.config.threshold
        feedback = "" if success else f"The answer {answer[:80]!r} is wrong."
        return Verdict(score=min(1.0, max(0.0, score)), success=success, feedback=feedback, answer=answer.strip())


@cache
def _scorer(kind: str) -> Callable[[str, JsonObject], float]:
    """Return the function that scores answers of a kind; some load a word list first."""
    from reasoning_gym import get_score_answer_fn
    from sympy.parsing.sympy_parser import parse_expr

    parse_expr("x + 1")  # many kinds parse with it, and the first call is slow
    scorer: Callable[[str, JsonObject], float] = get_score_answer_fn(kind)
    return scorer
