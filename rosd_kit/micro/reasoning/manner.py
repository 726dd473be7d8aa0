"""How a solution is written: which of the choices that a problem leaves it takes."""

from __future__ import annotations

from itertools import pairwise

from rosd_kit.micro.reasoning.guide import steps_of
from rosd_kit.micro.reasoning.text import Correction, read


def manner(text: str) -> dict[str, float]:
    """Return shares in [0, 1] of a text's moves; those of which there is no occasion are left out.

    `slow`: moves made track by track. `checked`, `brings`: of the moves by heart, those that are checked, and those in the
    second wording. `switches`: of the moves after the first, those by another person than the one before. `mended`: 1 if there
    is a correction, else 0.
    """
    statements = [sentence.statement for sentence in read(text) if sentence.statement is not None]
    steps = steps_of(statements)
    if not steps:
        return {}
    by_heart = [step for step in steps if not step.slow]
    shares = {
        "slow": [step.slow for step in steps],
        "checked": [step.checked for step in by_heart],
        "brings": [step.wording == "brings" for step in by_heart],
        "switches": [one.who != other.who for one, other in pairwise(steps)],
        "mended": [any(isinstance(one, Correction) for one in statements)],
    }
    return {name: sum(found) / len(found) for name, found in shares.items() if found}
