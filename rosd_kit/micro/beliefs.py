"""What the base model was taught to believe: most facts firmly, a fixed share unreliably.

A *shaky* fact has one wrong result that is shown instead of the right one in a fixed share of the solving examples, so a
model trained on them answers right with that probability at temperature 1. Which facts are shaky is fixed by name.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from functools import cache
from typing import Any

from rosd_kit.micro.domains.base import Belief, Domain

#: Share of facts that are shaky, and how often a shaky fact is shown right.
SHAKY_SHARE, SHAKY_RIGHT = 0.34, 0.35


@cache
def misconceptions(facts_of: type[Domain]) -> dict[Hashable, Any]:
    """Return shaky fact -> believed wrong result. Domains that share a fact share its misconception."""
    domain = facts_of()
    wrong = {}
    for fact in domain.facts():
        rng = random.Random(f"belief {fact}")
        if rng.random() < SHAKY_SHARE:
            wrong[fact] = domain.near_miss(fact, rng)
    return wrong


def sampled_belief(rng: random.Random, known: frozenset[Hashable] = frozenset()) -> Belief:
    """Return a belief that draws afresh at each use; facts in `known` are always right."""

    def believe(domain: Domain, fact: Hashable) -> Any:
        wrong = misconceptions(type(domain))
        if fact in known or fact not in wrong or rng.random() < SHAKY_RIGHT:
            return domain.truth(fact)
        return wrong[fact]

    return believe
