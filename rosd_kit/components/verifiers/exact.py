"""Exact match of the final answer."""

from __future__ import annotations

import re

from pydantic import field_validator

from rosd_kit.contracts import Verifier
from rosd_kit.types import Problem, Verdict

#: Only the end of a response can hold its final answer; this bounds what a regular expression has to search.
_TAIL = 4000


class Exact(Verifier):
    """Compares the last answer that a pattern finds with the right one."""

    name = "exact"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """How the answer is found and compared."""

        pattern: str = r"(?i:answer)[^\S\n]{0,4}:[^\S\n]{0,4}([^\n]+)"
        """Regular expression with one group, the answer; the last match in the response's last 4000 characters counts."""
        ignore_case: bool = False
        """Compare without regard to upper and lower case."""
        strip: str = " \t.*$`"
        """Characters taken off both ends of the answer; a full stop only off its end, so that `.5` is not `5`."""
        drop: str = ""
        """Regular expression of what makes no difference, such as `,(?=\\d{3})` or ` (km|cm)$`; empty drops nothing."""

        @field_validator("pattern")
        @classmethod
        def _one_group(cls, pattern: str) -> str:
            groups = _compiled(pattern).groups
            if groups != 1:
                raise ValueError(f"needs exactly one group (...), has {groups}")
            return pattern

        @field_validator("drop")
        @classmethod
        def _expression(cls, drop: str) -> str:
            return _compiled(drop).pattern

    def verify(self, problem: Problem, text: str) -> Verdict:
        said, right = self.answer_of(text), self._plain(problem.answer)
        if not said:
            return Verdict(score=0.0, success=False, feedback="No final answer was found.", status="unparsable")
        success = said == right
        feedback = f"The answer {said!r} is {'right' if success else 'wrong'}."
        return Verdict(score=float(success), success=success, feedback=feedback, answer=said)

    def answer_of(self, text: str) -> str:
        """Return the final answer in its plain form, or an empty string."""
        found = re.findall(self.config.pattern, text.rstrip()[-_TAIL:])
        return self._plain(found[-1] if found else "")

    def _plain(self, answer: str) -> str:
        answer = " ".join(answer.split()).lstrip(self.config.strip.replace(".", "")).rstrip(self.config.strip)
        answer = re.sub(self.config.drop, "", answer)
        return answer.casefold() if self.config.ignore_case else answer


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
