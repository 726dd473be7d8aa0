"""The language of solutions: sentences as values, how they are written, and how they are read.

    Ann takes oak from 3 to 9 .                              a move by heart
    From 3 oak brings Ann to 9 .                             the same in other words
    Ann takes oak : moss then fern , 3 moss 7 , 7 fern 9 .   a move track by track
    Check Ann : moss then fern , 3 moss 7 , 7 fern 9 , right .
    Wait , Ann is at 9 .                                     a correction
    Answer : Ann 5 , Bob 9 .

Written texts have single spaces; reading accepts any spacing. Knows no world and no truth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
Wording = Literal["takes", "brings"]
CheckVerdict = Literal["right", "wrong"]
_NUMBER, _WORD, _GAP = r"(\d+)", r"([A-Za-z]+)", r"\s*"


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One claim about a track: from one place to another."""

    start: int
    track: str
    end: int

    def __str__(self) -> str:
        return f"{self.start} {self.track} {self.end}"


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move by heart, in one of two wordings."""

    who: str
    path: str
    start: int
    end: int
    wording: Wording = "takes"

    def __str__(self) -> str:
        if self.wording == "takes":
            return f"{self.who} takes {self.path} from {self.start} to {self.end} ."
        return f"From {self.start} {self.path} brings {self.who} to {self.end} ."


@dataclass(frozen=True, kw_only=True)
class SlowMove:
    """A move track by track."""

    who: str
    path: str
    tracks: tuple[str, str]
    legs: tuple[Leg, Leg]

    def __str__(self) -> str:
        return f"{self.who} takes {self.path} : {' then '.join(self.tracks)} , {self.legs[0]} , {self.legs[1]} ."


@dataclass(frozen=True, kw_only=True)
class Check:
    """The last move of a person once more, track by track, and whether it was right."""

    who: str
    tracks: tuple[str, str]
    legs: tuple[Leg, Leg]
    verdict: CheckVerdict

    def __str__(self) -> str:
        return f"Check {self.who} : {' then '.join(self.tracks)} , {self.legs[0]} , {self.legs[1]} , {self.verdict} ."


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Says anew where a person is after all moves so far."""

    who: str
    place: int

    def __str__(self) -> str:
        return f"Wait , {self.who} is at {self.place} ."


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Where everyone is in the end, in any order."""

    places: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"Answer : {' , '.join(f'{who} {place}' for who, place in self.places)} ."


Statement = Move | SlowMove | Check | Correction | Answer


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence of a text: its characters without the full stop, and what it says, None if it cannot be read.

    `parts` are the characters of what it is made of, by name: `path`, `move`, `tracks`, `leg0`, `leg1`, `verdict`. `complete`
    is False for a last sentence without its full stop.
    """

    start: int
    end: int
    statement: Statement | None
    parts: dict[str, Span]
    complete: bool = True


def _pattern(*pieces: str) -> re.Pattern[str]:
    return re.compile(_GAP.join(pieces))


_LEGS = (rf"(?P<tracks>{_WORD}\s+then\s+{_WORD})", ",", *(
    rf"(?P<leg{n}>{_NUMBER}\s*{_WORD}\s*{_NUMBER})" + ("" if n else rf"{_GAP},") for n in range(2)
))  # fmt: skip
_TAKES = _pattern(_WORD, rf"\btakes\s+(?P<path>{_WORD})\s+from", rf"(?P<move>{_NUMBER}\s*to\s*{_NUMBER})")
_BRINGS = _pattern("From", rf"(?P<move>{_NUMBER}{_GAP}(?P<path>{_WORD})\s+brings\s+{_WORD}\s+to\s*{_NUMBER})")
_SLOW = _pattern(_WORD, rf"\btakes\s+(?P<path>{_WORD})", ":", *_LEGS)
_CHECK = _pattern("Check", _WORD, ":", *_LEGS, ",", r"(?P<verdict>(right|wrong))")
_CORRECTION = _pattern("Wait", ",", _WORD, r"\bis\s+at", _NUMBER)
_ANSWER = _pattern("Answer", ":", rf"({_WORD}\s*{_NUMBER}(?:\s*,\s*{_WORD}\s*{_NUMBER})*)")
_PLACE = re.compile(rf"{_WORD}\s*{_NUMBER}")


def write(statements: list[Statement] | tuple[Statement, ...]) -> str:
    """Return the text of a solution."""
    return " ".join(map(str, statements))


def read(text: str) -> list[Sentence]:
    """Split a text into sentences and read each."""
    sentences = []
    for match in re.finditer(r"[^.]*(\.|$)", text):
        body = match[0].removesuffix(".")
        if not body.strip():
            continue
        start = match.start() + len(body) - len(body.lstrip())
        end = match.start() + len(body.rstrip())
        statement, parts = _parse(text[start:end])
        moved = {name: (a + start, b + start) for name, (a, b) in parts.items()}
        sentences.append(Sentence(start=start, end=end, statement=statement, parts=moved, complete=match[0].endswith(".")))
    return sentences


def _parse(body: str) -> tuple[Statement | None, dict[str, Span]]:
    for pattern, build in _READERS:
        if match := pattern.fullmatch(body):
            parts = {name: match.span(name) for name in pattern.groupindex}
            return build(match), parts
    return None, {}


def _slow(match: re.Match[str]) -> Statement:
    return SlowMove(who=match[1], path=match["path"], tracks=_tracks(match), legs=(_leg(match["leg0"]), _leg(match["leg1"])))


def _check(match: re.Match[str]) -> Statement:
    verdict: CheckVerdict = "right" if match["verdict"] == "right" else "wrong"
    return Check(who=match[1], tracks=_tracks(match), legs=(_leg(match["leg0"]), _leg(match["leg1"])), verdict=verdict)


def _tracks(match: re.Match[str]) -> tuple[str, str]:
    first, second = re.split(r"\s+then\s+", match["tracks"])
    return first, second


def _leg(text: str) -> Leg:
    match = re.fullmatch(rf"{_NUMBER}\s*{_WORD}\s*{_NUMBER}", text)
    assert match is not None
    return Leg(start=int(match[1]), track=match[2], end=int(match[3]))


def _takes(match: re.Match[str]) -> Statement:
    start, end = (int(number) for number in re.findall(r"\d+", match["move"]))
    return Move(who=match[1], path=match["path"], start=start, end=end)


def _brings(match: re.Match[str]) -> Statement:
    start, end = (int(number) for number in re.findall(r"\d+", match["move"]))
    who = re.findall(r"brings\s+([A-Za-z]+)", match["move"])[0]
    return Move(who=who, path=match["path"], start=start, end=end, wording="brings")


def _answer(match: re.Match[str]) -> Statement:
    return Answer(places=tuple((who, int(place)) for who, place in _PLACE.findall(match[1])))


_READERS = (
    (_TAKES, _takes),
    (_BRINGS, _brings),
    (_SLOW, _slow),
    (_CHECK, _check),
    (_CORRECTION, lambda match: Correction(who=match[1], place=int(match[2]))),
    (_ANSWER, _answer),
)


def find_answer(text: str) -> str | None:
    """Return the last answer of a text in its normal form, people in alphabetical order, or None."""
    answers = [s.statement for s in read(text) if isinstance(s.statement, Answer)]
    return " , ".join(f"{who} {place}" for who, place in sorted(answers[-1].places)) if answers else None
