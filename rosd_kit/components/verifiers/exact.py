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
        """Characters taken off both ends of the answer."""

        @field_validator("pattern")
        @classmethod
        def _one_group(cls, pattern: str) -> str:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(f"needs exactly one group (...), has {groups}")
            return pattern

    def verify(self, problem: Problem, text: str) -> Verdict:
        found = re.findall(self.config.pattern, text[-_TAIL:])
        if not found:
            return Verdict(score=0.0, success=False, feedback="No final answer was found.", status="unparsable")
        said, right = self._plain(found[-1]), self._plain(problem.answer)
        success = said == right
        return Verdict(
            score=float(success), success=success, feedback=f"The answer {said!r} is {'right' if success else 'wrong'}."
        )

    def _plain(self, answer: str) -> str:
        answer = " ".join(answer.split()).strip(self.config.strip)
        return answer.casefold() if self.config.ignore_case else answer
