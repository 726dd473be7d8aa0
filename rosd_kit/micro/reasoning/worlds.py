"""The worlds of `micro_reasoning`: places, paths between them, and the tracks that a path consists of.

A *path* leads from every place to another place; it consists of two *tracks*, which do the same. Both are random permutations
of the places, drawn for each world by itself, so the facts of one world say nothing about another's. Whoever knows a path by
heart needs one fact for a move; whoever follows its tracks needs two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from rosd_kit.model.micro.words import NAMES, PATHS, PLACES, TRACKS


@dataclass(frozen=True, kw_only=True)
class World:
    """One domain: the words for its tracks and paths, and their tables. `tracks_of[path]` are its two tracks, in order."""

    name: str
    tracks: dict[str, tuple[int, ...]]
    tracks_of: dict[str, tuple[str, str]]

    @property
    def paths(self) -> list[str]:
        """The words for paths, in a fixed order."""
        return list(self.tracks_of)

    def follow(self, path: str, place: int) -> int:
        """Return where a path leads from a place."""
        first, second = self.tracks_of[path]
        return self.tracks[second][self.tracks[first][place]]


@cache
def world(name: str) -> World:
    """Return the world of this name; its tables depend on the name alone."""
    track_words, path_words = TRACKS[name], PATHS[name]
    rng = random.Random(f"micro reasoning {name}")
    tracks = {word: tuple(rng.sample(range(PLACES), PLACES)) for word in track_words}
    pairs = [(first, second) for first in track_words for second in track_words if first != second]
    return World(name=name, tracks=tracks, tracks_of=dict(zip(path_words, rng.sample(pairs, len(path_words)), strict=True)))


@dataclass(frozen=True, kw_only=True)
class Journey:
    """One problem: people, where each starts, and the paths that each takes, in this order."""

    world: str
    people: tuple[str, ...]
    starts: tuple[int, ...]
    paths: tuple[tuple[str, ...], ...]

    def question(self) -> str:
        """Return the problem's text."""
        starts = " , ".join(f"{who} is at {place}" for who, place in zip(self.people, self.starts, strict=True))
        moves = " ".join(f"{who} takes {' , '.join(taken)} ." for who, taken in zip(self.people, self.paths, strict=True))
        return f"In the {self.world} {starts} . {moves} Where are they ?"

    def places(self, who: str) -> list[int]:
        """Return where a person truly is: at the start and after each path."""
        at = self.people.index(who)
        places, known = [self.starts[at]], world(self.world)
        for path in self.paths[at]:
            places.append(known.follow(path, places[-1]))
        return places

    def answer(self) -> str:
        """Return the right answer in its normal form."""
        return " , ".join(f"{who} {self.places(who)[-1]}" for who in self.people)


def draw_journey(rng: random.Random, name: str, fewest: int, most: int) -> Journey:
    """Draw a problem of a world with `fewest` to `most` moves, at least two of each of two people."""
    moves = rng.randint(fewest, most)
    first = rng.randint(2, moves - 2)
    paths = world(name).paths
    return Journey(
        world=name,
        people=tuple(sorted(rng.sample(NAMES, 2))),
        starts=(rng.randrange(PLACES), rng.randrange(PLACES)),
        paths=tuple(tuple(rng.choice(paths) for _ in range(count)) for count in (first, moves - first)),
    )


#: Suite -> world, fewest and most moves. The first is trained on; `woods_long` has its facts in longer problems.
SUITES: dict[str, tuple[str, int, int]] = {
    "woods": ("woods", 5, 6),
    "woods_long": ("woods", 7, 8),
    "docks": ("docks", 5, 6),
    "mines": ("mines", 5, 6),
    "gates": ("gates", 5, 6),
}
