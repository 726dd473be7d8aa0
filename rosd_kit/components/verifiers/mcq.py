"""Multiple choice: one letter in an answer tag or a box."""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field

from rosd_kit.contracts import Verifier
from rosd_kit.text.boxes import last_box
from rosd_kit.text.tags import read_tag, strip_thinking
from rosd_kit.types import Problem, Verdict

#: What may stand around the letter: brackets, a full stop, the marks of bold type and mathematics, `\text{...}`.
_DRESS = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\b|[\s(){}\[\].:*_$`'\"]")


class MultipleChoice(Verifier):
    """Reads the letter in `<answer>...</answer>` or, without a tag, in the last box; thinking does not count."""

    name = "mcq"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """What an answer may look like."""

        letters: str = Field(default="ABCDEFGHIJ", pattern=r"^[A-Z]{2,}$")
        """The letters that are options."""
        tag: str = Field(default="answer", pattern=r"^[a-z_]+$")
        """Name of the tag around the answer."""
        boxed: bool = True
        """Whether a letter in `\\boxed{}` counts where the tag is missing."""
        reveal: bool = False
        """Name the right option in the feedback on a wrong one."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        said = self._letter(strip_thinking(text))
        if said is None:
            feedback = f"No single option was found in <{self.config.tag}>...</{self.config.tag}>."
            return Verdict(score=0.0, success=False, feedback=feedback, status="unparsable")
        right = _bare(problem.answer)
        if len(right) != 1:  # the data is at fault, not the response
            return Verdict(score=0.0, success=False, status="error")
        success = said == right
        feedback = f"The answer {said} is {'right' if success else 'wrong'}."
        if self.config.reveal and not success:
            feedback += f" The right answer is {right}."
        return Verdict(score=float(success), success=success, feedback=feedback, answer=said)

    def _letter(self, text: str) -> str | None:
        """Return the option that was chosen, or None when there is none or more than one."""
        found = read_tag(text, self.config.tag)
        said = found.text
        if found.status == "missing" and self.config.boxed:
            said = last_box(text)
        letter = _bare(said or "")
        return letter if len(letter) == 1 and letter in self.config.letters else None


def _bare(answer: str) -> str:
    """Return an answer without its dress: `( **b** ).` is `B`. Full-width letters are letters too."""
    return _DRESS.sub("", unicodedata.normalize("NFKC", answer[:200])).upper()
