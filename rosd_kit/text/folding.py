"""Folds text so that quotes are found whatever their case, spacing and markup, with offsets into the original text.

Two strengths: `fold` evens out spelling (case, width, typographic signs, spaces), `undress` also removes markup: emphasis,
code, list and block-quote signs, headings, quotation marks, LaTeX spacing and delimiters. Both are linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from rosd_kit.text.normal import SIGNS

_LATEX_SPACE = re.compile(r"\\[,;:! ]|~")
_FOLDS = SIGNS | {ord("´"): "'"}
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")

_MARKUP = re.compile(
    r"(?P<line>^[^\S\n]*+(?:(?:>|(?:[-*+•▪‣◦–—]|\#{1,6})(?=[^\S\n]))[^\S\n]*+)++)"
    r"|(?P<tag></?(?:b|i|em|strong|u|s|code|pre|br|p|q|sub|sup|mark|span|blockquote)\s?/?>)"
    r"|(?P<gap>\\(?:[,;:!> \n\\]|q?quad(?![a-z]))|~)"
    r"|(?P<drop>\\[()\[\]]|\\(?:left|right|[bB]igg?[lr]?|text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|boldsymbol|emph|mbox|displaystyle)"
    r"(?![a-zA-Z])|\$++|[_^{}]|`++)"
    r"|(?P<command>\\[a-zA-Z]++)"
    r"|(?P<escaped>\\[^\w\s])"
    r"|(?P<star>\*++)",
    re.MULTILINE | re.IGNORECASE,
)
#: LaTeX commands and the signs that mean the same.
_COMMANDS = {
    **dict.fromkeys(["times", "cdot", "ast", "bullet"], "×"),
    **dict.fromkeys(["ldots", "dots", "cdots", "dotsc", "dotsb"], "..."),
    **dict.fromkeys(["le", "leq", "leqslant"], "<="),
    **dict.fromkeys(["ge", "geq", "geqslant"], ">="),
    **dict.fromkeys(["ne", "neq"], "!="),
    **dict.fromkeys(["to", "rightarrow", "longrightarrow"], "->"),
    **dict.fromkeys(["implies", "rightarrow*"], "=>"),
    "div": "÷",
    "pm": "±",
    "approx": "≈",
    "equiv": "≡",
    "infty": "∞",
    "sqrt": "√",
    "in": "∈",
    "circ": "°",
    "degree": "°",
    "pi": "π",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "theta": "θ",
    "lambda": "λ",
    "mu": "μ",
    "sigma": "σ",
    "sum": "∑",
    "int": "∫",
    "dfrac": "\\frac",
    "tfrac": "\\frac",
}
_SIGNS = {**dict.fromkeys("·⋅∙✕✖", "×"), "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "⇒": "=>", "⟹": "=>", "⟶": "->"}
_BRACKETS = frozenset("「」『』《》〈〉")


@dataclass
class Folded:
    """A folded text. Character i of it comes from the characters `starts[i]` .. `ends[i]` of the original."""

    text: str = ""
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the original range of a range that is not empty."""
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """Return the text with case, width, typographic signs and spaces folded; runs of spaces become one."""
    pieces: list[str] = []
    folded = Folded()
    at, spaces = 0, {m.start(): m.end() for m in _LATEX_SPACE.finditer(text)}
    while at < len(text):
        end = spaces.get(at) or _cluster_end(text, at)
        for character in " " if at in spaces else _spelling(text[at:end]):
            if character.isspace():
                character = " "
                if not pieces or pieces[-1] == " ":
                    continue
            _append(folded, pieces, character, at, end)
        at = end
    if pieces and pieces[-1] == " ":
        pieces.pop(), folded.starts.pop(), folded.ends.pop()
    folded.text = "".join(pieces)
    return folded


def undress(text: str) -> Folded:
    """Return the folded text without markup; spaces remain only between words."""
    pieces: list[str] = []
    folded = Folded()
    gap: tuple[int, int] | None = None
    for characters, start, end in _undressed(text):
        for character in characters:
            if character.isspace():
                gap = gap or (start, end)
                continue
            if gap and pieces and joins_words(pieces[-1], character):
                _append(folded, pieces, " ", *gap)
            gap = None
            _append(folded, pieces, character, start, end)
    folded.text = "".join(pieces)
    return folded


def _append(folded: Folded, pieces: list[str], character: str, start: int, end: int) -> None:
    pieces.append(character)
    folded.starts.append(start)
    folded.ends.append(end)


def joins_words(left: str, right: str) -> bool:
    """Return whether two characters would be one word without a space between them; ideographs are words by themselves."""
    return left.isalnum() and right.isalnum() and not (_IDEOGRAPH.match(left) or _IDEOGRAPH.match(right))


def _undressed(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (folded characters, start, end) of each piece of the text."""
    at = 0
    for markup in _MARKUP.finditer(text):
        yield from _plain(text, at, markup.start())
        at = markup.end()
        yield _replacement(text, markup), markup.start(), at
    yield from _plain(text, at, len(text))


def _plain(text: str, at: int, stop: int) -> Iterator[tuple[str, int, int]]:
    while at < stop:
        end = min(_cluster_end(text, at), stop)
        folded = _spelling(text[at:end])
        if folded == '"' or text[at] in _BRACKETS or (folded == "'" and not _joins_letters(text, at)):
            folded = ""
        yield _SIGNS.get(folded, folded), at, end
        at = end


def _joins_letters(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalpha() and text[at + 1].isalpha()


def _replacement(text: str, markup: re.Match[str]) -> str:
    kind, found = markup.lastgroup, markup.group()
    if kind == "gap" or kind == "line":
        return " "
    if kind == "command":
        name = "rightarrow*" if found == "\\Rightarrow" else found[1:].casefold()
        return _COMMANDS.get(name, "\\" + name)
    if kind == "escaped":
        return "" if found[1] in "\"'`*_#" else found[1]
    if kind == "star" and len(found) == 1:
        before, after = text[max(0, markup.start() - 1) : markup.start()], text[markup.end() : markup.end() + 1]
        spaced = before.isspace() and after.isspace()
        joined = (before.isalnum() or before in ")]}") and (after.isalnum() or after in "([{\\")
        return "×" if spaced or (joined and before and after) else ""
    return ""


def _cluster_end(text: str, at: int) -> int:
    """Return the end of the character at `at` with the marks (or Hangul jamo) that combine with it."""
    end = at + 1
    while end < len(text) and text[end] >= "\u0300" and _combines(text[end]):
        end += 1
    return end


@lru_cache(maxsize=4096)
def _combines(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def _spelling(cluster: str) -> str:
    return _cached_spelling(cluster) if len(cluster) == 1 else _uncached_spelling(cluster)


def _uncached_spelling(cluster: str) -> str:
    plain = unicodedata.normalize("NFKC", cluster.translate(_FOLDS)).translate(_FOLDS).casefold()
    return "".join(c for c in plain if unicodedata.category(c) != "Cf") if not plain.isascii() else plain


_cached_spelling = lru_cache(maxsize=4096)(_uncached_spelling)
