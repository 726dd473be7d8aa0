"""A twelve-hour clock. Its facts contradict plain addition, so training on sums may harm it."""

from __future__ import annotations

import random

from rosd_kit.micro.domains.base import Domain, Fact, Instance, Move, Result, State


class Clock(Domain):
    """A twelve-hour clock: `The clock shows 9 . Wait 5 hours .`"""

    name = "clock"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        waits = tuple((rng.randint(2, 9),) for _ in range(moves))
        return Instance(start=(rng.randint(1, 12),), moves=waits)

    def question(self, instance: Instance) -> str:
        moves = " ".join(f"Wait {hours} hours ." for (hours,) in instance.moves)
        return f"The clock shows {instance.start[0]} . {moves} What does it show ?"

    def facts(self) -> list[Fact]:
        return [(shown, hours) for shown in range(1, 13) for hours in range(2, 10)]

    def truth(self, fact: Fact) -> int:
        shown, hours = fact
        return int((shown + hours - 1) % 12 + 1)

    def near_miss(self, fact: Fact, rng: random.Random) -> int:
        return (self.truth(fact) - 1 + rng.choice((-2, -1, 1, 2))) % 12 + 1

    def claim(self, state: State, move: Move, result: Result) -> str:
        return f"{state[0]} plus {move[0]} hours is {result}"
