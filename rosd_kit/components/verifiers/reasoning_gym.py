"""reasoning-gym's own scores, with a threshold."""

from __future__ import annotations

from pydantic import Field

from rosd_kit.contracts import Verifier
from rosd_kit.text.tags import read_tag, strip_thinking
from rosd_kit.types import Problem, Verdict


class GymVerifier(Verifier):
    """Scores the text in `<answer>...</answer>` by the rules of the problem's kind; wrong answers may score above 0."""

    name = "reasoning_gym"
    needs = frozenset({"gym_entry"})
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """What counts as right."""

        threshold: float = Field(default=0.99, gt=0.0, le=1.0)
        """The least score of a success."""
        tag: str = Field(default="answer", pattern=r"^[a-z_]+$")
        """Name of the tag around the answer."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        from reasoning_gym import get_score_answer_fn

        said = read_tag(strip_thinking(text), self.config.tag).text
        if said is None:
            feedback = f"No answer was found in <{self.config.tag}>...</{self.config.tag}>."
            return Verdict(score=0.0, success=False, status="unparsable", feedback=feedback)
        try:
            score = float(get_score_answer_fn(problem.meta["kind"])(said, problem.meta["entry"]))
        except Exception:  # a kind's own parser met something it does not expect
            return Verdict(score=0.0, success=False, status="unparsable", feedback="The answer could not be read.")
        success = score >= self.config.threshold
        feedback = "" if success else f"The answer {said[:80]!r} is wrong."
        return Verdict(score=min(1.0, max(0.0, score)), success=success, feedback=feedback, answer=said.strip())
