"""Mixing colours by an arbitrary table: pure knowledge, nothing to compute."""

from __future__ import annotations

import random
from functools import cache

from rosd_kit.micro.domains.base import Domain, Fact, Instance, Move, Result, State
from rosd_kit.model.micro.words import COLOURS


@cache
def _table() -> dict[tuple[str, str], str]:
    rng = random.Random("the colour table")
    return {(a, b): rng.choice(COLOURS) for a in COLOURS for b in COLOURS}


class Colours(Domain):
    """Mixing colours in a jar: `The jar is red . Pour blue . Pour gold .`"""

    name = "colours"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        return Instance(start=(rng.choice(COLOURS),), moves=tuple((rng.choice(COLOURS),) for _ in range(moves)))

    def question(self, instance: Instance) -> str:
        moves = " ".join(f"Pour {colour} ." for (colour,) in instance.moves)
        return f"The jar is {instance.start[0]} . {moves} What is the colour ?"

    def facts(self) -> list[Fact]:
        return list(_table())

    def truth(self, fact: Fact) -> str:
        first, second = fact
        return _table()[first, second]

    def near_miss(self, fact: Fact, rng: random.Random) -> str:
        return rng.choice([colour for colour in COLOURS if colour != self.truth(fact)])

    def claim(self, state: State, move: Move, result: Result) -> str:
        return f"{state[0]} with {move[0]} gives {result}"
