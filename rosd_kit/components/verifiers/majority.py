"""A verifier without the truth: the answer that most of a group agree on counts as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from rosd_kit.components.verifiers.exact import Exact
from rosd_kit.types import Problem, Verdict


class Majority(Exact):
    """Takes the most frequent answer of a group as right (U-OPSD); one response alone is compared with the true answer."""

    name = "majority"

    class Config(Exact.Config):
        """How answers are found, and when there is a majority."""

        share: float = Field(default=0.0, ge=0.0, lt=1.0)
        """A majority needs more than this share of the group's responses; below it nobody is right."""

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        said = [self.answer_of(text) for text in texts]
        votes = Counter(answer for answer in said if answer).most_common(2)
        tied = len(votes) == 2 and votes[0][1] == votes[1][1]
        elected = votes[0][0] if votes and not tied and votes[0][1] > self.config.share * len(texts) else None
        return [self._vote(answer, elected) for answer in said]

    def _vote(self, answer: str, elected: str | None) -> Verdict:
        if not answer:
            return Verdict(score=0.0, success=False, feedback="No final answer was found.", status="unparsable")
        success = answer == elected
        told = "" if success else f"The answer {answer!r} is not the one that most attempts gave."
        return Verdict(score=float(success), success=success, feedback=told, answer=answer)
