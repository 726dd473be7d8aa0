"""Compares final answers as text, in the normal form of `rosd_kit.text.normal`."""

from __future__ import annotations

import re

from pydantic import field_validator

from rosd_kit.contracts import Verifier
from rosd_kit.errors import shortened
from rosd_kit.sandbox.patterns import PatternTimeout, last_match, removed
from rosd_kit.text.answers import bare_answer
from rosd_kit.text.normal import normal_form
from rosd_kit.types import Problem, Verdict

#: Only the last characters can contain the final answer; this bounds the text that a regular expression searches.
_TAIL = 4000


class Exact(Verifier):
    """Compares the last answer that a pattern finds with the right answer."""

    name = "exact"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """How to find and compare the answer."""

        pattern: str = r"(?i:answer)[^\S\n]{0,4}:[^\S\n]{0,4}([^\n]+)"
        """Regular expression with one group, the answer; the last match in the last 4000 characters of the response counts.

        A pattern with several repetitions runs in a worker process with a deadline of 2 s, after which the status is `error`.
        """
        ignore_case: bool = False
        """Ignore upper and lower case."""
        strip: str = " \t.*$`"
        """Characters stripped from both ends of the answer; a full stop only from its end, so that `.5` is not `5`."""
        drop: str = ""
        """Regular expression of text to remove before comparing, like `,(?=\\d{3})` or ` (km|cm)$`; empty removes nothing."""

        @field_validator("pattern")
        @classmethod
        def _check_pattern(cls, pattern: str) -> str:
            groups = _compile(pattern).groups
            if groups != 1:
                raise ValueError(f"needs exactly one group (...), has {groups}")
            return pattern

        @field_validator("drop")
        @classmethod
        def _check_drop(cls, drop: str) -> str:
            return _compile(drop).pattern

    def verify(self, problem: Problem, text: str) -> Verdict:
        if fault := self.check_gold(problem):  # the data is at fault, not the response
            return Verdict(score=0.0, success=False, status="error", feedback=f"The right answer {fault}.")
        try:
            answer = self.answer_of(text)
        except PatternTimeout as error:
            return Verdict(score=0.0, success=False, status="error", feedback=str(error))
        if not answer:
            return Verdict(score=0.0, success=False, feedback="No final answer was found.", status="unparsable")
        success = answer == self._normalise(problem.answer)
        feedback = f"The answer {answer!r} is {'right' if success else 'wrong'}."
        return Verdict(score=float(success), success=success, feedback=feedback, answer=answer)

    def check_gold(self, problem: Problem) -> str | None:
        right = self._normalise(problem.answer)
        if not right:
            return f"{shortened(problem.answer)} is empty after verifier.strip and verifier.drop"
        if len(right) > _TAIL:
            return f"{shortened(problem.answer)} has {len(right)} characters, and only the last {_TAIL} of a response are read"
        return None

    def answer_of(self, text: str) -> str:
        """Return the normalised final answer, or an empty string. Raises `PatternTimeout` if a pattern takes too long."""
        tail = text.rstrip()[-_TAIL:]
        pattern = self.config.pattern
        trusted = pattern == type(self.config).model_fields["pattern"].default
        # A pattern may itself contain signs that the normal form folds, like a full-width colon.
        found = last_match(pattern, normal_form(tail), trusted=trusted)
        if found is None and not tail.isascii():
            found = last_match(pattern, tail, trusted=trusted)
        return self._normalise(bare_answer(found) if found else "")

    def _normalise(self, answer: str) -> str:
        answer = " ".join(normal_form(answer).split()).lstrip(self.config.strip.replace(".", "")).rstrip(self.config.strip)
        answer = removed(self.config.drop, answer) if self.config.drop else answer
        return answer.casefold() if self.config.ignore_case else answer


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
