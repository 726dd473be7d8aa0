"""The oracle reflector: reports the true first error and the right continuation, which procedural tasks know."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from rosd_kit.contracts import Generate, Reflector
from rosd_kit.seeds import stable_seed
from rosd_kit.text.sentences import sentence_starts
from rosd_kit.types import Case, Reflection


class OracleReflector(Reflector):
    """Reports the task's own truth: the upper bound for reflectors, or with less `accuracy` a reflector that is often wrong."""

    name = "oracle"
    needs = frozenset({"oracle"})
    provides = frozenset({"reflection", "quote"})

    class Config(Reflector.Config):
        """Options of `oracle`."""

        accuracy: float = Field(default=1.0, ge=0.0, le=1.0)
        """Probability that the quote is the true first error; otherwise it is another sentence of the response, drawn once for
        each response. The idea stays true."""

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        return [_misplaced(case, _true_reflection(case), self.config.accuracy) for case in cases]


def _misplaced(case: Case, reflection: Reflection, accuracy: float) -> Reflection:
    """Return the reflection, or with probability 1 - `accuracy` one that quotes another sentence, if there is one."""
    text = case.rollout.completion.text
    rng = random.Random(stable_seed("oracle reflector", case.problem.id, text))
    if reflection.quote_start is None or rng.random() < accuracy:
        return reflection
    sentences = [(a, b) for a, b in pairwise([*sentence_starts(text), len(text)]) if text[a:b].strip()]
    others = [(a, b) for a, b in sentences if not a <= reflection.quote_start < b]
    if not others:
        return reflection
    start, end = rng.choice(others)
    return Reflection(idea=reflection.idea, quote=text[start:end].strip(), quote_start=start)


def _true_reflection(case: Case) -> Reflection:
    truth = case.truth
    if truth is None:
        return Reflection(status="no_truth")
    if truth.status == "none" or truth.start < 0:
        return Reflection(idea=truth.idea or None)
    quote = case.rollout.completion.text[truth.start : truth.end]
    return Reflection(idea=truth.idea, quote=quote or None, quote_start=truth.start)
