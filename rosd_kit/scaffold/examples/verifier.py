"""The verifier `example`: decides whether a response is right."""

from __future__ import annotations

import re

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Verifier):
    """Compares the last number after a keyword with the right answer."""

    name = "example"
    provides = frozenset({"feedback"})

    class Config(rk.Config):
        """The keyword."""

        keyword: str = "Answer"
        """The word before the answer."""

    def verify(self, problem: rk.Problem, text: str) -> rk.Verdict:
        answers = re.findall(rf"{re.escape(self.config.keyword)} ?: ?(-?[0-9]{{1,20}})", text[-2000:])
        if not answers:
            return rk.Verdict(score=0.0, success=False, feedback="no answer", status="unparsable")
        right = answers[-1] == problem.answer
        feedback = f"Answer {answers[-1]} is {'right' if right else 'wrong'}"
        return rk.Verdict(score=float(right), success=right, feedback=feedback)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
