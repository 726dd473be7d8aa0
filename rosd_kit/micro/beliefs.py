"""The beliefs that the base model is trained on: most facts are certain, a fixed share is shaky.

A *shaky* fact has one wrong result, shown instead of the right one in a fixed share of the solving lessons. A model
trained on them gives the right result with the remaining probability at temperature 1. The fact itself, as a seed,
decides whether it is shaky.
"""

from __future__ import annotations

import random
from functools import cache

from rosd_kit.micro.domains.base import Belief, Domain, Fact, Result

#: Share of facts that are shaky, and share of lessons that show a shaky fact's right result.
SHAKY_SHARE, SHAKY_RIGHT = 0.34, 0.35


@cache
def misconceptions(facts_of: type[Domain]) -> dict[Fact, Result]:
    """Map each shaky fact to its wrong result. Domains that share a fact share its misconception."""
    domain = facts_of()
    wrong = {}
    for fact in domain.facts():
        rng = random.Random(f"belief {fact}")
        if rng.random() < SHAKY_SHARE:
            wrong[fact] = domain.near_miss(fact, rng)
    return wrong


def sampled_belief(rng: random.Random, known: frozenset[Fact] = frozenset()) -> Belief:
    """Return a belief that draws each result anew; facts in `known` are always right."""

    def believe(domain: Domain, fact: Fact) -> Result:
        wrong = misconceptions(type(domain))
        if fact in known or fact not in wrong or rng.random() < SHAKY_RIGHT:
            return domain.truth(fact)
        return wrong[fact]

    return believe
