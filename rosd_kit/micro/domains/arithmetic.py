"""Facts about adding and subtracting small numbers, and the two domains that use them.

`sums` is a bare chain; `coins` is about two people's purses, so the same facts appear in other words. Learning a fact in
one domain helps in the other.
"""

from __future__ import annotations

import random

from rosd_kit.micro.domains.base import Domain, Fact, Instance, Move, Result, State
from rosd_kit.model.micro.words import NAMES

#: Right totals stay in LOW .. TOP, operands in 2 .. OPERAND. A wrong total may drift slightly outside.
LOW, TOP, OPERAND = 8, 38, 9
_VALUE = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}


def _allowed(a: int, sign: str, b: int) -> bool:
    return bool(LOW <= _VALUE[sign](a, b) <= TOP)


def _draw_chain(rng: random.Random, total: int, moves: int) -> tuple[tuple[str, int], ...]:
    terms: list[tuple[str, int]] = []
    for _ in range(moves):
        options = [(sign, b) for sign in "+-" for b in range(2, OPERAND + 1) if _allowed(total, sign, b)]
        sign, b = rng.choice(options)
        terms.append((sign, b))
        total = _VALUE[sign](total, b)
    return tuple(terms)


class _Arithmetic(Domain):
    """Base of the domains whose facts are `(a, sign, b)`."""

    def facts(self) -> list[Fact]:
        signs = ("+", "-")
        return [(a, s, b) for a in range(LOW, TOP + 1) for s in signs for b in range(2, OPERAND + 1) if _allowed(a, s, b)]

    def truth(self, fact: Fact) -> int:
        a, sign, b = fact
        # Only a total that is already wrong can fall below zero, for which the vocabulary has no word.
        return max(0, int(_VALUE[sign](a, b)))

    def near_miss(self, fact: Fact, rng: random.Random) -> int:
        right = self.truth(fact)
        return rng.choice([n for n in (right - 2, right - 1, right + 1, right + 2) if n >= 0])

    def same(self, claim: list[str], expected: list[str]) -> bool:
        if claim == expected:
            return True
        if "+" not in expected or len(claim) != len(expected):
            return False
        plus = expected.index("+")
        swapped = [*expected[: plus - 1], expected[plus + 1], "+", expected[plus - 1], *expected[plus + 2 :]]
        return claim == swapped


class Sums(_Arithmetic):
    """A running total: `Start at 17 . Add 8 . Subtract 5 .`"""

    name = "sums"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        start = rng.randint(LOW, TOP)
        return Instance(start=(start,), moves=_draw_chain(rng, start, moves))

    def question(self, instance: Instance) -> str:
        words = {"+": "Add", "-": "Subtract"}
        moves = " ".join(f"{words[sign]} {b} ." for sign, b in instance.moves)
        return f"Start at {instance.start[0]} . {moves} What is the result ?"

    def claim(self, state: State, move: Move, result: Result) -> str:
        return f"{state[0]} {move[0]} {move[1]} = {result}"


class Coins(_Arithmetic):
    """Two purses, one of which changes: `Ann has 12 coins . Bob has 9 coins . Ann gets 5 . Ann pays 3 .`

    The same facts as in `sums`, in other words and with a second purse as a distractor. A state is
    `(purse, owner, other purse, other owner)`.
    """

    name = "coins"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        owner, other = rng.sample(NAMES, 2)
        purse = rng.randint(LOW, TOP)
        return Instance(start=(purse, owner, rng.randint(LOW, TOP), other), moves=_draw_chain(rng, purse, moves))

    def question(self, instance: Instance) -> str:
        purse, owner, other_purse, other = instance.start
        words = {"+": "gets", "-": "pays"}
        moves = " ".join(f"{owner} {words[sign]} {b} ." for sign, b in instance.moves)
        return f"{owner} has {purse} coins . {other} has {other_purse} coins . {moves} How many coins has {owner} ?"

    def claim(self, state: State, move: Move, result: Result) -> str:
        return f"{state[1]} has {state[0]} {move[0]} {move[1]} = {result}"
