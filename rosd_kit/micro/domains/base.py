"""What every laboratory domain shares: chains of claims, beliefs about facts, and the first-error oracle.

A problem is a start state and a list of moves. Its solution makes one claim a move, in order, and then states the
answer. Each claim rests on one *fact* (say 17 + 8 = 25), and a *belief* maps a fact to the result that somebody
takes for true. Because the due claim at every step is determined, the first error of any text can be found exactly.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from rosd_kit.types import FirstError

Fact = Hashable
Belief = Callable[["Domain", Fact], Any]

_LEXEME = re.compile(r"\d+|[A-Za-z]+|[^\sA-Za-z\d]")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One problem of a domain: the state it starts from, and what is done.

    A state's first entry is what changes and what is asked for; the rest is scenery. The fact that a move rests on is
    `(state[0], *move)`.
    """

    start: tuple[Any, ...]
    moves: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Lexeme:
    """One word, number or sign of a text with its character range."""

    text: str
    start: int
    end: int


class Domain(ABC):
    """A family of problems. Subclasses say what states, moves and facts are and how they are told."""

    name: str

    @abstractmethod
    def draw(self, rng: random.Random, moves: int) -> Instance:
        """Return a random instance with so many moves."""

    @abstractmethod
    def question(self, instance: Instance) -> str:
        """Return the problem's text."""

    @abstractmethod
    def facts(self) -> list[Fact]:
        """Return every fact of the domain in a fixed order."""

    @abstractmethod
    def truth(self, fact: Fact) -> Any:
        """Return the right result of a fact."""

    @abstractmethod
    def near_miss(self, fact: Fact, rng: random.Random) -> Any:
        """Return a wrong result that somebody might plausibly believe."""

    @abstractmethod
    def claim(self, state: tuple[Any, ...], move: tuple[Any, ...], result: Any) -> str:
        """Return the claim's text."""

    def same(self, said: list[str], due: list[str]) -> bool:
        """Return whether two claims, as lists of lexemes, say the same; override where operands may be swapped."""
        return said == due

    def claims(self, instance: Instance, belief: Belief) -> tuple[list[str], str]:
        """Return the claims that somebody with this belief makes, and the answer they arrive at."""
        state, claims = instance.start, []
        for move in instance.moves:
            result = belief(self, (state[0], *move))
            claims.append(self.claim(state, move, result))
            state = (result, *state[1:])
        return claims, str(state[0])

    def solve(self, instance: Instance) -> tuple[list[str], str]:
        """Return the right claims and the right answer."""
        return self.claims(instance, lambda domain, fact: domain.truth(fact))


def write_solution(claims: list[str], answer: str) -> str:
    """Return the canonical text of a solution."""
    steps = [f"Step {i} : {claim} ." for i, claim in enumerate(claims, start=1)]
    return " ".join([*steps, f"Answer : {answer} ."])


def write_idea(claims: list[str], answer: str, first: int) -> str:
    """Return what a perfect reflector says: the right claims from `first` on, or the answer when no claim is left."""
    return " . ".join(claims[first:]) or f"Answer : {answer}"


def find_answer(text: str) -> str | None:
    """Return what follows the last `Answer :` of a text, or None."""
    found = re.findall(r"Answer\s*:\s*([A-Za-z]+|\d+)", text)
    return found[-1] if found else None


def sentences(text: str) -> list[list[Lexeme]]:
    """Cut a text into sentences of lexemes; the closing full stop stays with its sentence."""
    out: list[list[Lexeme]] = [[]]
    for match in _LEXEME.finditer(text):
        out[-1].append(Lexeme(text=match.group(), start=match.start(), end=match.end()))
        if match.group() == ".":
            out.append([])
    return [sentence for sentence in out if sentence]


def first_error(domain: Domain, instance: Instance, text: str) -> FirstError:
    """Return where `text` first goes wrong as a solution of `instance`.

    Step labels, spacing and the order of commuting operands do not matter; every claim must be the due one. Text after a
    right answer is ignored unless it answers again, differently.
    """
    claims, answer = domain.solve(instance)
    due = 0
    answered = False
    for sentence in sentences(text):
        body, complete = _body(sentence)
        words = [lexeme.text for lexeme in body]
        is_answer = words[:2] == ["Answer", ":"]
        if answered:
            if is_answer and complete and words[2:] != [answer]:
                return _error(sentence, body, len(claims), claims, answer)
            continue
        target = f"Answer : {answer}" if due == len(claims) else claims[due]
        target_words = [lexeme.text for lexeme in sentences(target)[0]]
        if not complete and words == target_words[: len(words)]:
            # An answer without its full stop is an answer; any other unfinished sentence just stops early.
            if is_answer and words == target_words:
                answered = True
                continue
            return _incomplete(text, due, target, claims, answer)
        if words == target_words or (not is_answer and domain.same(words, target_words)):
            answered = is_answer
            due += not is_answer
            continue
        return _error(sentence, body, due, claims, answer, parsable=is_answer or _alike(words, target_words))
    if answered:
        return FirstError(status="none", idea=write_idea(claims, answer, 0))
    target = f"Answer : {answer}" if due == len(claims) else claims[due]
    return _incomplete(text, due, target, claims, answer)


def _body(sentence: list[Lexeme]) -> tuple[list[Lexeme], bool]:
    """Split off the label `Step n :` and the full stop; say whether the full stop was there."""
    complete = sentence[-1].text == "."
    body = sentence[:-1] if complete else sentence
    words = [lexeme.text for lexeme in body[:3]]
    if words[:1] == ["Step"] and all(
        check for check, _ in zip((True, words[1:2] and words[1].isdigit(), words[2:3] == [":"]), words, strict=False)
    ):
        body = body[3:]
    return body, complete


def _alike(said: list[str], due: list[str]) -> bool:
    """Return whether a sentence has the shape of the due claim: as long, and the same kind of lexeme in each place."""
    return len(said) == len(due) and all(
        a == b or (a.isalnum() and b.isalnum()) or (a in "+-" and b in "+-") for a, b in zip(said, due, strict=True)
    )


def _error(
    sentence: list[Lexeme], body: list[Lexeme], step: int, claims: list[str], answer: str, *, parsable: bool = True
) -> FirstError:
    span = body or sentence
    return FirstError(
        status="error" if parsable else "unparsable",
        step=step,
        start=span[0].start,
        end=span[-1].end,
        sentence_start=sentence[0].start,
        replacement=f"Answer : {answer}" if step == len(claims) else claims[step],
        idea=write_idea(claims, answer, step),
    )


def _incomplete(text: str, step: int, target: str, claims: list[str], answer: str) -> FirstError:
    return FirstError(
        status="incomplete",
        step=step,
        start=len(text),
        end=len(text),
        sentence_start=len(text),
        replacement=target,
        idea=write_idea(claims, answer, step),
    )
