"""Finds the first error of any solution, in any order and way; errors that are repaired later are none.

Every claim is judged by what was claimed before it, so a consequence of an error is no error of its own. An error in a person's
moves stays open until a correction says where that person truly is. The first error is the first that is still open at the end;
after it, only the answer itself can err.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rosd_kit.micro.reasoning.text import Answer, Check, Correction, Leg, Move, Sentence, SlowMove, Span, read
from rosd_kit.micro.reasoning.worlds import Journey, World, world
from rosd_kit.types import FirstError, FirstErrorStatus


@dataclass(kw_only=True)
class _Open:
    """An error that has not been repaired: where it is, and what should stand there."""

    sentence: Sentence
    span: Span
    replacement: str
    who: str
    move: int
    status: FirstErrorStatus = "error"


@dataclass(kw_only=True)
class _Traveller:
    """What a text has claimed of one person so far."""

    name: str
    paths: tuple[str, ...]
    places: list[int]
    claimed: int
    done: int = 0
    before: int | None = None
    """Where the last move began; None before the first, and after a correction, which leaves nothing to check."""
    error: _Open | None = None


@dataclass
class _Reading:
    journey: Journey
    travellers: dict[str, _Traveller] = field(default_factory=dict)
    lasting: _Open | None = None
    answered: bool = False

    def __post_init__(self) -> None:
        for who, start, paths in zip(self.journey.people, self.journey.starts, self.journey.paths, strict=True):
            self.travellers[who] = _Traveller(name=who, paths=paths, places=self.journey.places(who), claimed=start)

    @property
    def world(self) -> World:
        return world(self.journey.world)

    def take(self, sentence: Sentence) -> None:
        """Judge one sentence."""
        statement = sentence.statement
        if isinstance(statement, Answer):
            self._answer(sentence, statement)
        elif self.answered:
            return
        elif statement is None or (traveller := self.travellers.get(statement.who)) is None:
            self._last(sentence, (sentence.start, sentence.end), *self._due(None), status="unparsable")
        elif isinstance(statement, Correction):
            self._correct(sentence, traveller, statement)
        elif isinstance(statement, Check):
            self._check(sentence, traveller, statement)
        else:
            self._move(sentence, traveller, statement)

    def first(self, text: str) -> FirstError:
        """Return the first error that is still open."""
        errors = [one.error for one in self.travellers.values() if one.error is not None]
        if self.lasting is not None:
            errors.append(self.lasting)
        if errors:
            error = min(errors, key=lambda one: one.span)
            return FirstError(
                status=error.status,
                step=error.move,
                start=error.span[0],
                end=error.span[1],
                sentence_start=error.sentence.start,
                replacement=error.replacement,
                idea=self._idea(error),
            )
        if self.answered:
            return FirstError(status="none", idea=write_idea(self.journey))
        who, move, replacement = self._due(None)
        end = len(text)
        idea = self._idea_from(who, move, replacement)
        return FirstError(
            status="incomplete", step=move, start=end, end=end, sentence_start=end, replacement=replacement, idea=idea
        )

    def _move(self, sentence: Sentence, traveller: _Traveller, move: Move | SlowMove) -> None:
        if traveller.done == len(traveller.paths) or move.path != traveller.paths[traveller.done]:
            self._last(sentence, sentence.parts["path"], *self._due(traveller))
            return
        at, traveller.before = traveller.claimed, traveller.claimed
        if isinstance(move, SlowMove):
            self._legs(sentence, traveller, move.path, move.tracks, move.legs, traveller.done)
            traveller.claimed = move.legs[1].end
        else:
            right = self.world.follow(move.path, at) if at < len(next(iter(self.world.tracks.values()))) else -1
            if (move.start, move.end) != (at, right):
                written = f"{at} to {right}" if move.wording == "takes" else f"{at} {move.path} brings {move.who} to {right}"
                self._err(sentence, traveller, sentence.parts["move"], written, traveller.done)
            traveller.claimed = move.end
        traveller.done += 1

    def _check(self, sentence: Sentence, traveller: _Traveller, check: Check) -> None:
        if traveller.before is None:
            self._last(sentence, (sentence.start, sentence.end), *self._due(traveller))
            return
        last, claimed = traveller.done - 1, traveller.claimed
        traveller.claimed = traveller.before
        self._legs(sentence, traveller, traveller.paths[last], check.tracks, check.legs, last)
        traveller.claimed = claimed
        agrees = "right" if check.legs[1].end == claimed else "wrong"
        if check.verdict != agrees:
            self._err(sentence, traveller, sentence.parts["verdict"], agrees, last)

    def _legs(
        self,
        sentence: Sentence,
        traveller: _Traveller,
        path: str,
        tracks: tuple[str, str],
        legs: tuple[Leg, Leg],
        move: int,
    ) -> None:
        """Judge a path's tracks and both legs, each by what stands before it."""
        if tracks != self.world.tracks_of[path]:
            self._err(sentence, traveller, sentence.parts["tracks"], " then ".join(self.world.tracks_of[path]), move)
        at = traveller.claimed
        for number, (track, leg) in enumerate(zip(tracks, legs, strict=True)):
            table = self.world.tracks.get(track, ())
            right = table[at] if at < len(table) else -1
            if leg != Leg(start=at, track=track, end=right):
                self._err(sentence, traveller, sentence.parts[f"leg{number}"], f"{at} {track} {right}", move)
            at = leg.end

    def _correct(self, sentence: Sentence, traveller: _Traveller, correction: Correction) -> None:
        right = traveller.places[traveller.done]
        traveller.claimed, traveller.before = correction.place, None
        if correction.place == right:
            traveller.error = None
            return
        span = (sentence.start, sentence.end)
        self._err(sentence, traveller, span, f"Wait , {traveller.name} is at {right}", max(0, traveller.done - 1))

    def _answer(self, sentence: Sentence, answer: Answer) -> None:
        places = dict(answer.places)
        people = [who for who, _ in answer.places]
        unfinished = [one for one in self.travellers.values() if one.done < len(one.paths)]
        claimed = {who: one.claimed for who, one in self.travellers.items()}
        follows = places == claimed and len(people) == len(claimed) and not unfinished
        right = " , ".join(f"{who} {one.places[-1]}" for who, one in self.travellers.items())
        again = self.answered and sorted(answer.places) != sorted((w, one.places[-1]) for w, one in self.travellers.items())
        if (not self.answered and not follows) or again:
            due = self._due(None) if unfinished else ("", self._moves(), f"Answer : {right}")
            self._last(sentence, (sentence.start, sentence.end), *due)
        self.answered = True

    def _moves(self) -> int:
        return sum(len(one.paths) for one in self.travellers.values())

    def _due(self, traveller: _Traveller | None) -> tuple[str, int, str]:
        """Return whose move is due, its number, and the right claim; this person's if any is left, else the first's."""
        left = [one for one in (traveller, *self.travellers.values()) if one is not None and one.done < len(one.paths)]
        if not left:
            return "", self._moves(), f"Answer : {self.journey.answer()}"
        one = left[0]
        return one.name, one.done, f"{one.places[one.done]} {one.paths[one.done]} {one.places[one.done + 1]}"

    def _err(self, sentence: Sentence, traveller: _Traveller, span: Span, replacement: str, move: int) -> None:
        if traveller.error is None:
            traveller.error = _Open(sentence=sentence, span=span, replacement=replacement, who=traveller.name, move=move)

    def _last(
        self, sentence: Sentence, span: Span, who: str, move: int, replacement: str, status: FirstErrorStatus = "error"
    ) -> None:
        """Note an error that no correction repairs."""
        if self.lasting is None:
            self.lasting = _Open(sentence=sentence, span=span, replacement=replacement, who=who, move=move, status=status)

    def _idea(self, error: _Open) -> str:
        return self._idea_from(error.who, error.move, error.replacement)

    def _idea_from(self, who: str, move: int, replacement: str) -> str:
        facts = [] if not who else _facts(self.journey, who)[move:]
        return " . ".join(dict.fromkeys([replacement, *facts]))


def write_idea(journey: Journey) -> str:
    """Return what a perfect reflector says of a right solution: every move as a fact, person by person."""
    return " . ".join(fact for who in journey.people for fact in _facts(journey, who))


def _facts(journey: Journey, who: str) -> list[str]:
    places, paths = journey.places(who), journey.paths[journey.people.index(who)]
    return [f"{start} {path} {end}" for start, path, end in zip(places, paths, places[1:], strict=False)]


def first_error(journey: Journey, text: str) -> FirstError:
    """Return where `text` first goes wrong as a solution of `journey` without mending it later.

    Moves of different people may come in any order, by heart or track by track; checks and corrections may stand anywhere after
    a move of the person. Text after the answer is ignored, unless it gives another answer.
    """
    reading = _Reading(journey)
    for sentence in read(text):
        unfinished = not sentence.complete and not isinstance(sentence.statement, Answer)
        if unfinished and not reading.answered:
            break  # stops early
        reading.take(sentence)
    return reading.first(text)
