"""The base of the laboratory's domains: chains of claims, beliefs about facts, and the first-error oracle.

A problem is a start state and a list of moves. Its solution makes one claim per move, in order, and then states the
answer. Each claim uses one *fact*, like 17 + 8 = 25, and a *belief* maps facts to the results that a solver assumes.
Because the expected claim at every step is determined, the first error of any text can be found exactly.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosd_kit.types import FirstError

#: Numbers and words; each domain knows the types of its own.
State = tuple[Any, ...]
Move = tuple[Any, ...]
Fact = tuple[Any, ...]
Result = int | str
Belief = Callable[["Domain", Fact], Result]

_LEXEME = re.compile(r"\d+|[A-Za-z]+|[^\sA-Za-z\d]")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One problem of a domain: its start state and its moves.

    The first entry of a state changes and is asked for; the others are context. A move uses the fact
    `(state[0], *move)`.
    """

    start: State
    moves: tuple[Move, ...]


@dataclass(frozen=True, kw_only=True)
class Lexeme:
    """One word, number or sign of a text with its character range."""

    text: str
    start: int
    end: int


class Domain(ABC):
    """A kind of problem. Subclasses define its states, moves and facts, and their wording."""

    name: str

    @abstractmethod
    def draw(self, rng: random.Random, moves: int) -> Instance:
        """Draw a random instance with this number of moves."""

    @abstractmethod
    def question(self, instance: Instance) -> str:
        """Return the problem's text."""

    @abstractmethod
    def facts(self) -> list[Fact]:
        """Return every fact of the domain in a fixed order."""

    @abstractmethod
    def truth(self, fact: Fact) -> Result:
        """Return the right result of a fact."""

    @abstractmethod
    def near_miss(self, fact: Fact, rng: random.Random) -> Result:
        """Draw a plausible wrong result of a fact."""

    @abstractmethod
    def claim(self, state: State, move: Move, result: Result) -> str:
        """Return the claim's text."""

    def same(self, claim: list[str], expected: list[str]) -> bool:
        """Return whether two claims, as lists of lexemes, are equivalent; override if operands may be swapped."""
        return claim == expected

    def claims(self, instance: Instance, belief: Belief) -> tuple[list[str], str]:
        """Return the claims and the answer that follow from this belief."""
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
    """Return a perfect reflector's idea: the right claims from `first` on, or the answer if no claim is left."""
    return " . ".join(claims[first:]) or f"Answer : {answer}"


def find_answer(text: str) -> str | None:
    """Return the answer after the last `Answer :` of a text, or None. Asterisks, by which models write bold, do not count."""
    answers = re.findall(r"Answer\s*:[\s*]*([A-Za-z]+|\d+)", text)
    return answers[-1] if answers else None


def sentences(text: str) -> list[list[Lexeme]]:
    """Split a text into sentences of lexemes; each sentence keeps its full stop."""
    split: list[list[Lexeme]] = [[]]
    for match in _LEXEME.finditer(text):
        split[-1].append(Lexeme(text=match.group(), start=match.start(), end=match.end()))
        if match.group() == ".":
            split.append([])
    return [sentence for sentence in split if sentence]


def first_error(domain: Domain, instance: Instance, text: str) -> FirstError:
    """Return where `text` first goes wrong as a solution of `instance`.

    Step labels, spacing and the order of commuting operands do not matter; every claim must be the expected one. Text
    after a right answer is ignored, unless it gives another answer.
    """
    claims, answer = domain.solve(instance)
    step = 0
    answered = False
    for sentence in sentences(text):
        body, complete = _body(sentence)
        words = [lexeme.text for lexeme in body]
        is_answer = words[:2] == ["Answer", ":"]
        if answered:
            if is_answer and complete and words[2:] != [answer]:
                return _error(sentence, body, len(claims), claims, answer)
            continue
        target = f"Answer : {answer}" if step == len(claims) else claims[step]
        target_words = [lexeme.text for lexeme in sentences(target)[0]]
        if not complete and words == target_words[: len(words)]:
            # An answer without its full stop counts as an answer; any other unfinished sentence stops early.
            if is_answer and words == target_words:
                answered = True
                continue
            return _incomplete(text, step, target, claims, answer)
        if words == target_words or (not is_answer and domain.same(words, target_words)):
            answered = is_answer
            step += not is_answer
            continue
        return _error(sentence, body, step, claims, answer, parsable=is_answer or _same_shape(words, target_words))
    if answered:
        return FirstError(status="none", idea=write_idea(claims, answer, 0))
    target = f"Answer : {answer}" if step == len(claims) else claims[step]
    return _incomplete(text, step, target, claims, answer)


def _body(sentence: list[Lexeme]) -> tuple[list[Lexeme], bool]:
    """Split off the label `Step n :` and the full stop; also return whether there was a full stop."""
    complete = sentence[-1].text == "."
    body = sentence[:-1] if complete else sentence
    words = [lexeme.text for lexeme in body[:3]]
    if words[:1] == ["Step"] and all(
        check for check, _ in zip((True, words[1:2] and words[1].isdigit(), words[2:3] == [":"]), words, strict=False)
    ):
        body = body[3:]
    return body, complete


def _same_shape(sentence: list[str], expected: list[str]) -> bool:
    """Return whether a sentence has the shape of the expected claim: the same kinds of lexemes in the same order."""
    return len(sentence) == len(expected) and all(
        a == b or (a.isalnum() and b.isalnum()) or (a in "+-" and b in "+-") for a, b in zip(sentence, expected, strict=True)
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
