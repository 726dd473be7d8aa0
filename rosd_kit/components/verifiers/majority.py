"""A verifier without ground truth: the majority answer of a group counts as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from rosd_kit.components.verifiers.exact import Exact
from rosd_kit.sandbox.patterns import PatternTimeout
from rosd_kit.types import Problem, Verdict


class Majority(Exact):
    """Counts the most frequent answer of a group as right (U-OPSD); a single response is compared with the true answer."""

    name = "majority"

    class Config(Exact.Config):
        """How to find answers, and what counts as a majority."""

        share: float = Field(default=0.0, ge=0.0, lt=1.0)
        """A majority needs more than this share of the group's responses; without a majority no response is right."""

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        answers = [self._answer_or_none(text) for text in texts]
        votes = Counter(answer for answer in answers if answer).most_common(2)
        tied = len(votes) == 2 and votes[0][1] == votes[1][1]
        winner = votes[0][0] if votes and not tied and votes[0][1] > self.config.share * len(texts) else None
        return [self._judge(answer, winner) for answer in answers]

    def _answer_or_none(self, text: str) -> str | None:
        """Return the answer, or None if searching for it took too long."""
        try:
            return self.answer_of(text)
        except PatternTimeout:
            return None

    def check_gold(self, problem: Problem) -> str | None:
        return None  # groups need no truth

    def _judge(self, answer: str | None, winner: str | None) -> Verdict:
        if answer is None:
            return Verdict(score=0.0, success=False, status="error")
        if not answer:
            return Verdict(score=0.0, success=False, feedback="No final answer was found.", status="unparsable")
        success = answer == winner
        feedback = "" if success else f"The answer {answer!r} is not the one that most attempts gave."
        return Verdict(score=float(success), success=success, feedback=feedback, answer=answer)
