"""Facts about adding and subtracting small numbers, and the two domains that rest on them.

`sums` is a bare chain; `coins` tells of two people's purses, so the same facts appear in other words and only some of
the moves matter for the answer. What is learned of a fact in one is of use in the other.
"""

from __future__ import annotations

import random
from typing import Any

from rosd_kit.micro.domains.base import Domain, Fact, Instance
from rosd_kit.micro.language import NAMES

#: True totals stay in LOW .. TOP, operands in 2 .. OPERAND. A mistaken total may drift a little outside.
LOW, TOP, OPERAND = 8, 38, 9
_VALUE = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}


def _allowed(a: int, sign: str, b: int) -> bool:
    return bool(LOW <= _VALUE[sign](a, b) <= TOP)


def _draw_term(rng: random.Random, total: int) -> tuple[str, int]:
    options = [(sign, b) for sign in "+-" for b in range(2, OPERAND + 1) if _allowed(total, sign, b)]
    return rng.choice(options)


class _Arithmetic(Domain):
    """Facts `(a, sign, b)`."""

    def facts(self) -> list[Fact]:
        signs = ("+", "-")
        return [(a, s, b) for a in range(LOW, TOP + 1) for s in signs for b in range(2, OPERAND + 1) if _allowed(a, s, b)]

    def truth(self, fact: Any) -> int:
        a, sign, b = fact
        # Only a total that is already mistaken can fall below zero, for which the language has no word.
        return max(0, int(_VALUE[sign](a, b)))

    def near_miss(self, fact: Any, rng: random.Random) -> int:
        right = self.truth(fact)
        return rng.choice([n for n in (right - 2, right - 1, right + 1, right + 2) if n >= 0])

    def same(self, said: list[str], due: list[str]) -> bool:
        if said == due:
            return True
        if "+" not in due or len(said) != len(due):
            return False
        at = due.index("+")
        return said == [*due[: at - 1], due[at + 1], "+", due[at - 1], *due[at + 2 :]]


class Sums(_Arithmetic):
    """A running total: `Start at 17 . Add 8 . Subtract 5 .`"""

    name = "sums"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        start = total = rng.randint(LOW, TOP)
        terms = []
        for _ in range(moves):
            sign, b = _draw_term(rng, total)
            terms.append((sign, b))
            total = _VALUE[sign](total, b)
        return Instance(start=(start,), moves=tuple(terms))

    def question(self, instance: Instance) -> str:
        words = {"+": "Add", "-": "Subtract"}
        told = " ".join(f"{words[sign]} {b} ." for sign, b in instance.moves)
        return f"Start at {instance.start[0]} . {told} What is the result ?"

    def fact_of(self, state: tuple[Any, ...], move: tuple[Any, ...]) -> Fact:
        return (state[0], *move)

    def after(self, state: tuple[Any, ...], move: tuple[Any, ...], result: Any) -> tuple[Any, ...]:
        return (result,)

    def claim(self, state: tuple[Any, ...], move: tuple[Any, ...], result: Any) -> str:
        return f"{state[0]} {move[0]} {move[1]} = {result}"


class Coins(_Arithmetic):
    """Two purses: `Ann has 12 coins . Bob has 9 coins . Ann gets 5 . Bob pays 3 .`

    A state is `(first purse, second purse, first name, second name)`, a move `(whose, sign, amount)`.
    """

    name = "coins"

    def draw(self, rng: random.Random, moves: int) -> Instance:
        names = rng.sample(NAMES, 2)
        purses = [rng.randint(LOW, TOP), rng.randint(LOW, TOP)]
        start = (*purses, *names)
        told = []
        for _ in range(moves):
            who = rng.randrange(2)
            sign, b = _draw_term(rng, purses[who])
            told.append((who, sign, b))
            purses[who] = _VALUE[sign](purses[who], b)
        return Instance(start=start, moves=tuple(told), asked=told[rng.randrange(moves)][0])

    def question(self, instance: Instance) -> str:
        first, second, *names = instance.start
        words = {"+": "gets", "-": "pays"}
        told = " ".join(f"{names[who]} {words[sign]} {b} ." for who, sign, b in instance.moves)
        owners = f"{names[0]} has {first} coins . {names[1]} has {second} coins ."
        return f"{owners} {told} How many coins has {names[instance.asked]} ?"

    def fact_of(self, state: tuple[Any, ...], move: tuple[Any, ...]) -> Fact:
        who, sign, b = move
        return (state[who], sign, b)

    def after(self, state: tuple[Any, ...], move: tuple[Any, ...], result: Any) -> tuple[Any, ...]:
        return (result, *state[1:]) if move[0] == 0 else (state[0], result, *state[2:])

    def claim(self, state: tuple[Any, ...], move: tuple[Any, ...], result: Any) -> str:
        who, sign, b = move
        return f"{state[2 + who]} has {state[who]} {sign} {b} = {result}"
