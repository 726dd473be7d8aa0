"""What a solver takes from a text that it reads: facts that it is then sure of, and the manner in which it is written."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from rosd_kit.micro.reasoning.text import Check, Move, SlowMove, Statement, Wording
from rosd_kit.micro.reasoning.worlds import Journey, world

#: (path or track, from, to)
Fact = tuple[str, int, int]
_FACT = re.compile(r"(\d+)\s+(?!to\b)([a-z]+)\s+(\d+)")


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a text makes one move."""

    who: str
    path: str
    slow: bool
    wording: Wording = "takes"
    checked: bool = False


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a solver takes from a text that it reads.

    `facts` are certain; of two about the same the later one. `steps` are the text's moves in its order; each choice follows
    them with probability `follows`. Where `own` is False, the text is about another problem: only its shares of ways, wordings
    and checks can be followed.
    """

    facts: tuple[Fact, ...] = ()
    steps: tuple[Step, ...] = ()
    follows: float = 0.0
    own: bool = True
    _of: dict[str, list[Step]] = field(init=False, default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for step in self.steps:
            self._of.setdefault(step.who, []).append(step)

    def mover(self, done: int, rng: random.Random) -> str | None:
        """Return who makes the move after `done` moves, None where the solver chooses."""
        if self.own and done < len(self.steps) and rng.random() < self.follows:
            return self.steps[done].who
        return None

    def step(self, who: str, number: int, rng: random.Random) -> Step | None:
        """Return how to make a person's move of this number, from 0; None where the solver chooses."""
        if not self.steps or rng.random() >= self.follows:
            return None
        if not self.own:
            return rng.choice(self.steps)
        theirs = self._of.get(who, [])
        return theirs[number] if number < len(theirs) else None


def steps_of(statements: Sequence[Statement]) -> tuple[Step, ...]:
    """Return the manner of a solution, move by move."""
    steps = []
    for one, after in zip_longest(statements, statements[1:]):
        if isinstance(one, SlowMove):
            steps.append(Step(who=one.who, path=one.path, slow=True))
        elif isinstance(one, Move):
            checked = isinstance(after, Check)
            steps.append(Step(who=one.who, path=one.path, slow=False, wording=one.wording, checked=checked))
    return tuple(steps)


def facts_of(statements: Sequence[Statement]) -> tuple[Fact, ...]:
    """Return what a solution claims of paths and tracks, in order; a check comes after the move that it mends."""
    facts: list[Fact] = []
    path = ""
    for one in statements:
        if isinstance(one, Move):
            path = one.path
            facts.append((path, one.start, one.end))
        elif isinstance(one, SlowMove | Check):
            path = one.path if isinstance(one, SlowMove) else path  # a check is of the move before it
            facts += [(leg.track, leg.start, leg.end) for leg in one.legs]
            facts.append((path, one.legs[0].start, one.legs[1].end))
    return tuple(facts)


def read_facts(idea: str) -> tuple[Fact, ...]:
    """Return the facts that an idea states, as `3 oak 7`."""
    return tuple((word, int(start), int(end)) for start, word, end in _FACT.findall(idea))


def steps_by_heart(journey: Journey, facts: tuple[Fact, ...]) -> tuple[Step, ...]:
    """Return the moves of a problem whose path facts are stated, person by person, by heart."""
    return tuple(
        Step(who=who, path=path, slow=False)
        for who, paths in zip(journey.people, journey.paths, strict=True)
        for path, start in zip(paths, journey.places(who), strict=False)
        if (path, start, world(journey.world).follow(path, start)) in facts
    )
