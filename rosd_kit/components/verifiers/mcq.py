"""Judges multiple-choice answers: one letter in an answer tag or a box."""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field

from rosd_kit.contracts import Verifier
from rosd_kit.errors import shortened
from rosd_kit.text.answers import tag_or_box
from rosd_kit.text.tags import read_tag
from rosd_kit.types import Problem, Verdict

#: Allowed around the letter: brackets, a full stop, marks of bold type and mathematics, `\text{...}`.
_DECORATION = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|textrm|textit|boldsymbol|bm|operatorname|boxed|fbox|left|right|rm|bf|it)(?![a-zA-Z])"
    r"|\\[()\[\],;:! ]|[\s(){}\[\].:*_$`'\"~]"
)
#: A line of a list of options as `{choices|letters}` writes it.
_OPTION = re.compile(r"^([A-Z])[:.)] ", re.MULTILINE)


class MultipleChoice(Verifier):
    """Reads the letter in `<answer>...</answer>` or, without a tag, in the last box."""

    name = "mcq"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """The accepted forms of an answer."""

        letters: str = Field(default="ABCDEFGHIJ", pattern=r"^[A-Z]{2,}$")
        """The letters of the options."""
        tag: str = Field(default="answer", pattern=r"^[a-z_]+$")
        """Name of the tag around the answer."""
        boxed: bool = True
        """Accept a letter in `\\boxed{}` if the tag is missing; `<answer>\\boxed{B}</answer>` needs no permission."""
        strict: bool = False
        """Accept only the bare capital letter in the tag, like `<answer>B</answer>`, as papers count: no box, no `(b)`."""
        reveal: bool = False
        """Name the right option in the feedback on a wrong one."""

    def verify(self, problem: Problem, text: str) -> Verdict:
        if fault := self.check_gold(problem):  # the data is at fault, not the response
            return Verdict(score=0.0, success=False, status="error", feedback=f"The right answer {fault}.")
        letter, right = self._letter(text), _strip_decoration(problem.answer)
        if letter is None:
            feedback = f"No single option was found in <{self.config.tag}>...</{self.config.tag}>."
            return Verdict(score=0.0, success=False, feedback=feedback, status="unparsable")
        success = letter == right
        feedback = f"The answer {letter} is {'right' if success else 'wrong'}."
        if self.config.reveal and not success:
            feedback += f" The right answer is {right}."
        return Verdict(score=float(success), success=success, feedback=feedback, answer=letter)

    def check_gold(self, problem: Problem) -> str | None:
        right = _strip_decoration(problem.answer)
        if len(right) != 1 or right not in self.config.letters:
            return f"{shortened(problem.answer)} is not one of the letters {self.config.letters} (verifier.letters)"
        listed = _listed_options(problem)
        if listed and right not in listed and not re.search(rf"\b{right}[.:)]", problem.messages[-1]["content"]):
            return f"{shortened(problem.answer)} is not among the options {listed} of the prompt"
        return None

    def _letter(self, text: str) -> str | None:
        """Return the chosen option, or None if there is none or more than one."""
        if self.config.strict:
            letter = read_tag(text, self.config.tag).text or ""
        else:
            letter = _strip_decoration(tag_or_box(text, self.config.tag, boxed=self.config.boxed) or "")
        return letter if len(letter) == 1 and letter in self.config.letters else None


def _listed_options(problem: Problem) -> str:
    """Return the letters of the lines `A: ...`, `B: ...` of the prompt, or nothing if they are no list from A on."""
    letters = "".join(_OPTION.findall(problem.messages[-1]["content"])) if problem.messages else ""
    return letters if len(letters) > 1 and letters == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(letters)] else ""


def _strip_decoration(answer: str) -> str:
    """Return the bare answer in upper case: `( **b** ).` gives `B`. Full-width letters count as letters."""
    return _DECORATION.sub("", unicodedata.normalize("NFKC", answer[:200])).upper()
