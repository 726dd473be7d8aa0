"""Finds the control tokens of a chat template in texts, and tells those of the template from those that messages spell.

Knows strings only: neither tokenizers nor templates.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

Range = tuple[int, int]


@dataclass(frozen=True)
class Origins:
    """What is known about a rendered chat.

    `spelled` are the ranges that messages spelled, `seams` the positions where a message's text meets other text.
    """

    spelled: frozenset[Range] = frozenset()
    seams: Sequence[int] = ()

    def is_spelled(self, found: Range) -> bool:
        """Return whether a control token at this range comes from a message, wholly or in part."""
        return found in self.spelled or self.seam_within(found) is not None

    def seam_within(self, found: Range) -> int | None:
        """Return the first seam strictly inside the range."""
        index = bisect_right(self.seams, found[0])
        return self.seams[index] if index < len(self.seams) and self.seams[index] < found[1] else None


@dataclass(frozen=True)
class ControlText:
    """The texts of a template's control tokens."""

    tokens: tuple[str, ...]
    _prefixes: frozenset[str] = field(init=False, repr=False)
    _suffixes: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prefixes", frozenset(t[:n] for t in self.tokens for n in range(1, len(t))))
        object.__setattr__(self, "_suffixes", frozenset(t[n:] for t in self.tokens for n in range(1, len(t))))

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.tokens), default=0)

    def find(self, text: str) -> Iterator[Range]:
        """Yield the ranges of control tokens in a text: the leftmost, and of those the longest."""
        pattern = self._pattern(text)
        return (match.span() for match in pattern.finditer(text)) if pattern else iter(())

    def _pattern(self, text: str) -> re.Pattern[str] | None:
        # Only those that occur: a search for each takes less time than an alternation of a thousand.
        present = sorted((token for token in self.tokens if token in text), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, present))) if present else None

    def is_suspicious(self, text: str) -> bool:
        """Return whether a text holds a control token, or begins or ends with a part of one."""
        return any(token in text for token in self.tokens) or self._seams(text) != (None, None)

    def _seams(self, text: str) -> tuple[int | None, int | None]:
        """Return where a text begins and ends, if with a part of a control token; templates remove white space around it."""
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        begins = any(text[start : start + n] in self._suffixes for n in range(1, self._longest))
        ends = any(text[max(start, end - n) : end] in self._prefixes for n in range(1, self._longest))
        return start if begins else None, end if ends else None

    def template_tokens(self, text: str, origins: Origins) -> list[Range]:
        """Return the ranges of the control tokens that the template itself wrote into a rendered chat."""
        pattern, found, position = self._pattern(text), [], 0
        while pattern is not None and (match := pattern.search(text, position)):
            position = match.end()
            if not origins.is_spelled(match.span()):
                found.append(match.span())
            elif (seam := origins.seam_within(match.span())) is not None:
                position = seam  # what begins at the seam may be the template's
        return found

    def split(self, text: str) -> list[str]:
        """Return a text in pieces none of which holds a control token."""
        pieces, end = [], 0
        for start, stop in self.find(text):
            pieces += [text[end : start + 1], text[start + 1 : stop]]
            end = stop
        return [*pieces, text[end:]]

    def break_up(self, text: str) -> str:
        """Return a text with a space in each control token, and beside a part of one at its beginning or end."""
        start, end = self._seams(text)
        before, after = text[:start] if start else "", text[end:] if end is not None else ""
        inner = " ".join(self.split(text[len(before) : len(text) - len(after)]))
        return f"{before}{' ' * (start is not None)}{inner}{' ' * (end is not None)}{after}"

    def marks(self, characters: Iterator[str]) -> tuple[_Brackets | _Filler, ...]:
        """Return ways to mark the control tokens of messages, to be tried in turn; `characters` occur in no text."""
        five = "".join(islice(characters, 5))
        return (_Brackets(self, five, at_edges=True), _Brackets(self, five, at_edges=False), _Filler(self))


@dataclass(frozen=True)
class _Brackets:
    """Puts a mark before and after each control token.

    Without `at_edges`, none stands before a text's first and after its last characters, so that a template still finds what
    the text begins and ends with.
    """

    text: ControlText
    characters: str
    at_edges: bool

    def write(self, text: str) -> str:
        """Return the text with marks."""
        opening, closing, begins, ends, seam = tuple(self.characters)
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        first_seam, last_seam = self.text._seams(text) if self.at_edges else (None, None)
        inserts: list[tuple[int, str]] = [(place, seam) for place in (first_seam, last_seam) if place is not None]
        for start, stop in self.text.find(text):
            whole = (start, stop) == (first, last)  # nothing but a control token must be marked somewhere
            at_start, at_end = (edge and not self.at_edges and not whole for edge in (start == first, stop == last))
            if not at_start:
                inserts.append((start, begins if at_end else opening))
            if not at_end:
                inserts.append((stop, ends if at_start else closing))
        marked, done = [], 0
        for place, mark in sorted(inserts, key=lambda insert: insert[0]):
            marked += [text[done:place], mark]
            done = place
        return "".join([*marked, text[done:]])

    def read(self, marked: str, plain: str) -> Origins | None:
        """Return what the marks say about the plain rendering; None if the marks changed more than themselves."""
        places: dict[str, list[int]] = {character: [] for character in self.characters}
        pieces = re.split(f"([{self.characters}])", marked)
        position = 0
        for piece in pieces:
            if piece in places:
                places[piece].append(position)
            else:
                position += len(piece)
        if "".join(piece for piece in pieces if piece not in places) != plain:
            return None
        opened, closed, begun, ended = (set(places[mark]) for mark in self.characters[:4])
        spelled = ((i, j) for i, j in self.text.find(plain) if (i in opened and j in closed) or i in begun or j in ended)
        return Origins(spelled=frozenset(spelled), seams=sorted({place for listed in places.values() for place in listed}))


@dataclass(frozen=True)
class _Filler:
    """Replaces each control token by as many letters, for templates that count or cut characters."""

    text: ControlText

    def write(self, text: str) -> str:
        """Return the text with letters in place of control tokens."""
        parts, end = [], 0
        for start, stop in self.text.find(text):
            parts += [text[end:start], "x" * (stop - start)]
            end = stop
        return "".join([*parts, text[end:]])

    def read(self, filled: str, plain: str) -> Origins | None:
        """Return which control tokens of the plain rendering the other one lacks; None if their lengths differ."""
        if len(filled) != len(plain):
            return None
        return Origins(
            spelled=frozenset(found for found in self.text.find(plain) if filled[slice(*found)] != plain[slice(*found)])
        )
