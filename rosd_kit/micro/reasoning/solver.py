"""Writes solutions: which choices a solver makes, and where it errs. Knows worlds and language; knows no model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from rosd_kit.micro.reasoning.text import Answer, Check, CheckVerdict, Correction, Leg, Move, SlowMove, Statement, Wording
from rosd_kit.micro.reasoning.worlds import PLACES, Journey, World, world


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


def solve(journey: Journey, rng: random.Random, habits: Habits) -> list[Statement]:
    """Write one solution; the solver trusts what it wrote, and mends what a check of its own shows to be wrong.

    With `habits.shaky` 0 every fact is told right; any other value means the misconceptions of the world.
    """
    known, at = world(journey.world), dict(zip(journey.people, journey.starts, strict=True))
    left = {who: list(paths) for who, paths in zip(journey.people, journey.paths, strict=True)}
    statements: list[Statement] = []
    mover = rng.choice(journey.people)
    while any(left.values()):
        others = [who for who in journey.people if who != mover and left[who]]
        if not left[mover] or (others and rng.random() >= habits.stay):
            mover = others[0]
        path, start = left[mover].pop(0), at[mover]
        if rng.random() < habits.slow:
            legs = _legs(known, path, start, rng, habits)
            statements.append(SlowMove(who=mover, path=path, tracks=known.tracks_of[path], legs=legs))
            at[mover] = legs[1].end
            continue
        end = _recall(journey.world, path, start, rng, habits)
        wording: Wording = "brings" if rng.random() < habits.brings else "takes"
        statements.append(Move(who=mover, path=path, start=start, end=end, wording=wording))
        at[mover] = end
        if rng.random() < habits.check:
            legs = _legs(known, path, start, rng, habits)
            agrees = legs[1].end == end
            verdict: CheckVerdict = "right" if agrees else "wrong"
            statements.append(Check(who=mover, tracks=known.tracks_of[path], legs=legs, verdict=verdict))
            if not agrees:
                at[mover] = legs[1].end
                statements.append(Correction(who=mover, place=at[mover]))
    return [*statements, Answer(places=tuple((who, at[who]) for who in journey.people))]


def canonical(journey: Journey) -> list[Statement]:
    """Return the right solution that goes person by person, by heart."""
    moves = [
        Move(who=who, path=path, start=start, end=end)
        for who, paths in zip(journey.people, journey.paths, strict=True)
        for path, start, end in zip(paths, journey.places(who), journey.places(who)[1:], strict=False)
    ]
    return [*moves, Answer(places=tuple((who, journey.places(who)[-1]) for who in journey.people))]


def _legs(known: World, path: str, start: int, rng: random.Random, habits: Habits) -> tuple[Leg, Leg]:
    first, second = known.tracks_of[path]
    between = _slipped(known.tracks[first][start], rng, habits)
    end = _slipped(known.tracks[second][between], rng, habits)
    return Leg(start=start, track=first, end=between), Leg(start=between, track=second, end=end)


def _slipped(place: int, rng: random.Random, habits: Habits) -> int:
    return _other(place, rng) if rng.random() < habits.slip else place


def _recall(name: str, path: str, start: int, rng: random.Random, habits: Habits) -> int:
    wrong = misconceptions(name) if habits.shaky else {}
    if (path, start) in wrong and rng.random() >= habits.believed:
        return wrong[path, start]
    return world(name).follow(path, start)


def _other(place: int, rng: random.Random) -> int:
    return (place + rng.randrange(1, PLACES)) % PLACES
