"""The verifier `example`: is the response right?"""

from __future__ import annotations

import re

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Verifier):
    """Compares the last number after a word with the right answer."""

    name = "example"
    provides = frozenset({"feedback"})

    class Config(rk.Config):
        """How the answer is found."""

        word: str = "Answer"
        """The word before the answer."""

    def verify(self, problem: rk.Problem, text: str) -> rk.Verdict:
        said = re.findall(rf"{re.escape(self.config.word)} ?: ?(-?[0-9]{{1,20}})", text[-2000:])
        if not said:
            return rk.Verdict(score=0.0, success=False, feedback="no answer", status="unparsable")
        right = said[-1] == problem.answer
        return rk.Verdict(score=float(right), success=right, feedback=f"Answer {said[-1]} is {'right' if right else 'wrong'}")


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
