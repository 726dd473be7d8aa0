"""Writes solutions: which choices a solver makes, and where it errs. Knows worlds and language; knows no model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from rosd_kit.micro.reasoning.guide import Guide
from rosd_kit.micro.reasoning.text import Answer, Check, CheckVerdict, Correction, Leg, Move, SlowMove, Statement, Wording
from rosd_kit.micro.reasoning.worlds import Journey, world
from rosd_kit.model.micro.words import PLACES


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a solver works in one world: shares and probabilities.

    `slow`: share of moves track by track. `shaky`: share of path facts that are misbelieved, each always as the same wrong
    place; `believed`: how often the truth is told of such a fact. `slip`: probability that a leg ends at a random wrong place.
    `check`: probability of a check after a move by heart. `brings`: share of the second wording. `stay`: probability that
    the next move is by the person who moved last.
    """

    slow: float = 0.35
    shaky: float = 0.34
    believed: float = 0.5
    slip: float = 0.045
    check: float = 0.25
    brings: float = 0.35
    stay: float = 0.6


#: In `mines`, most facts about paths are misbelieved and the truth is never told: only the slow way is reliable there.
HABITS: dict[str, Habits] = {
    "woods": Habits(),
    "docks": Habits(),
    "gates": Habits(),
    "mines": Habits(slow=0.88, shaky=0.75, believed=0.0),
}


#: A solver that reads no text.
UNGUIDED = Guide()


@cache
def misconceptions(name: str) -> dict[tuple[str, int], int]:
    """Map each misbelieved fact of a world, (path, place), to its wrong place."""
    known, wrong = world(name), {}
    for path in known.paths:
        for place in range(PLACES):
            rng = random.Random(f"misbelief {name} {path} {place}")
            if rng.random() < HABITS[name].shaky:
                wrong[path, place] = _other(known.follow(path, place), rng)
    return wrong


def solve(journey: Journey, rng: random.Random, habits: Habits, guide: Guide = UNGUIDED) -> list[Statement]:
    """Write one solution; the solver trusts what it wrote, and mends what a check of its own shows to be wrong.

    With `habits.shaky` 0 every fact is told right; any other value means the misconceptions of the world. What `guide` states
    is certain, and its manner comes before the habits.
    """
    return _Solving(journey, rng, habits, guide).write()


class _Solving:
    """One solution while it is written: where everyone is claimed to be, and what they have still to do."""

    def __init__(self, journey: Journey, rng: random.Random, habits: Habits, guide: Guide) -> None:
        self.journey, self.world, self.rng, self.habits, self.guide = journey, world(journey.world), rng, habits, guide
        self.at = dict(zip(journey.people, journey.starts, strict=True))
        self.left = {who: list(paths) for who, paths in zip(journey.people, journey.paths, strict=True)}
        self.known = {(word, start): end for word, start, end in guide.facts}
        self.statements: list[Statement] = []

    def write(self) -> list[Statement]:
        """Make all moves and state the answer."""
        mover, done = self.rng.choice(self.journey.people), 0
        while any(self.left.values()):
            mover = self._mover(mover, done)
            self._move(mover)
            done += 1
        return [*self.statements, Answer(places=tuple((who, self.at[who]) for who in self.journey.people))]

    def _mover(self, last: str, done: int) -> str:
        others = [who for who in self.journey.people if who != last and self.left[who]]
        if not self.left[last]:
            return others[0]
        shown = self.guide.mover(done, self.rng)
        if shown is not None and self.left.get(shown):
            return shown
        return others[0] if others and self.rng.random() >= self.habits.stay else last

    def _move(self, who: str) -> None:
        number = len(self.journey.paths[self.journey.people.index(who)]) - len(self.left[who])
        path, start = self.left[who].pop(0), self.at[who]
        shown = self.guide.step(who, number, self.rng)
        if shown.slow if shown else self.rng.random() < self.habits.slow:
            legs = self._legs(path, start)
            self.statements.append(SlowMove(who=who, path=path, tracks=self.world.tracks_of[path], legs=legs))
            self.at[who] = legs[1].end
            return
        end = self._recall(path, start)
        own: Wording = "brings" if self.rng.random() < self.habits.brings else "takes"
        self.statements.append(Move(who=who, path=path, start=start, end=end, wording=shown.wording if shown else own))
        self.at[who] = end
        if shown.checked if shown else self.rng.random() < self.habits.check:
            self._check(who, path, start, end)

    def _check(self, who: str, path: str, start: int, end: int) -> None:
        legs = self._legs(path, start)
        agrees = legs[1].end == end
        verdict: CheckVerdict = "right" if agrees else "wrong"
        self.statements.append(Check(who=who, tracks=self.world.tracks_of[path], legs=legs, verdict=verdict))
        if not agrees:
            self.at[who] = legs[1].end
            self.statements.append(Correction(who=who, place=legs[1].end))

    def _legs(self, path: str, start: int) -> tuple[Leg, Leg]:
        first, second = self.world.tracks_of[path]
        sure = (path, start) in self.known  # who knows where a path ends does not slip on the way
        between = self._leg(first, start, sure)
        end = self._leg(second, between, sure)
        return Leg(start=start, track=first, end=between), Leg(start=between, track=second, end=end)

    def _leg(self, track: str, start: int, sure: bool) -> int:
        if (track, start) in self.known:
            return self.known[track, start]
        right = self.world.tracks[track][start]
        return _other(right, self.rng) if not sure and self.rng.random() < self.habits.slip else right

    def _recall(self, path: str, start: int) -> int:
        if (path, start) in self.known:
            return self.known[path, start]
        wrong = misconceptions(self.journey.world) if self.habits.shaky else {}
        if (path, start) in wrong and self.rng.random() >= self.habits.believed:
            return wrong[path, start]
        return self.world.follow(path, start)


def canonical(journey: Journey) -> list[Statement]:
    """Return the right solution that goes person by person, by heart."""
    moves = [
        Move(who=who, path=path, start=start, end=end)
        for who, paths in zip(journey.people, journey.paths, strict=True)
        for path, start, end in zip(paths, journey.places(who), journey.places(who)[1:], strict=False)
    ]
    return [*moves, Answer(places=tuple((who, journey.places(who)[-1]) for who in journey.people))]


def _other(place: int, rng: random.Random) -> int:
    return (place + rng.randrange(1, PLACES)) % PLACES
