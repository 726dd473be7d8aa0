"""Judges by reasoning-gym's own scores, with a threshold."""

from __future__ import annotations

from pydantic import Field

from rosd_kit.contracts import Verifier
from rosd_kit.text.tags import read_tag
from rosd_kit.types import Problem, Verdict


class GymVerifier(Verifier):
    """Scores the text in `<answer>...</answer>` by the rules of the problem's kind; wrong answers may score above 0."""

    name = "reasoning_gym"
    needs = frozenset({"gym_entry"})
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """The form of an answer, and when it counts as right."""

        threshold: float = Field(default=0.99, gt=0.0, le=1.0)
        """Minimum score of a success."""
        tag: str = Field(default="answer", pattern=r"^[a-z_]+$")
        """Name of the tag around the answer."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        from reasoning_gym import get_score_answer_fn

        answer = read_tag(text, self.config.tag).text
        if answer is None:
            feedback = f"No answer was found in <{self.config.tag}>...</{self.config.tag}>."
            return Verdict(score=0.0, success=False, status="unparsable", feedback=feedback)
        try:
            score = float(get_score_answer_fn(problem.meta["kind"])(answer, problem.meta["entry"]))
        except Exception:  # the parser of a kind may raise anything on unexpected text
            return Verdict(score=0.0, success=False, status="unparsable", feedback="The answer could not be read.")
        success = score >= self.config.threshold
        feedback = "" if success else f"The answer {answer[:80]!r} is wrong."
        return Verdict(score=min(1.0, max(0.0, score)), success=success, feedback=feedback, answer=answer.strip())
