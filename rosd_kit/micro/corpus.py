"""Training lessons of the embedded base model: solving, reflecting, and solving with privileged text.

A lesson holds the contents of a prompt and the response to learn; it knows no prompt template. Solving lessons follow the
shaky beliefs of `beliefs.py`. In lessons with privileged text, only the facts that the text states are certain.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from rosd_kit.micro.beliefs import sampled_belief
from rosd_kit.micro.domains import DOMAINS, SUITES
from rosd_kit.micro.domains.base import Domain, Fact, Instance, Result, first_error, write_idea, write_solution
from rosd_kit.micro.lesson import Lesson, write_reflection

#: Share of each kind of lesson. Comparing two solutions is learned slowly, so reflection gets almost half.
MIXTURE: dict[str, float] = {
    "solve": 0.30,
    "reflect_wrong": 0.38,
    "reflect_right": 0.05,
    "idea": 0.14,
    "solution": 0.05,
    "solution_and_idea": 0.02,
    "unrelated": 0.03,
    "feedback": 0.03,
}

#: Relative frequency of each suite: higher if it is learned slowly, lower for long problems, which cost twice the tokens.
SUITE_SHARES: dict[str, float] = {"sums": 0.8, "sums_long": 0.8, "coins": 1.2, "clock": 0.6, "colours": 1.4}


@dataclass(frozen=True, kw_only=True)
class DomainLesson(Lesson):
    """A lesson about one problem of a domain."""

    domain: Domain
    instance: Instance
    answer: str


def draw_lesson(rng: random.Random) -> DomainLesson:
    """Draw a random lesson from the mixture."""
    kind = rng.choices(list(MIXTURE), weights=list(MIXTURE.values()))[0]
    name = rng.choices(list(SUITE_SHARES), weights=list(SUITE_SHARES.values()))[0]
    domain, instance = draw_instance(rng, *SUITES[name])
    return _LESSONS[kind](kind, domain, instance, rng)


def draw_instance(rng: random.Random, domain_name: str, fewest: int, most: int) -> tuple[Domain, Instance]:
    """Return the domain and a random instance of it with `fewest` to `most` moves."""
    domain = DOMAINS[domain_name]
    return domain, domain.draw(rng, rng.randint(fewest, most))


def _solve(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    target = write_solution(*domain.claims(instance, sampled_belief(rng)))
    return DomainLesson(kind=kind, domain=domain, instance=instance, answer=domain.solve(instance)[1], target=target)


def _reflect_wrong(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    claims, answer = domain.solve(instance)
    response = faulty_solution(domain, instance, rng)
    truth = first_error(domain, instance, response)
    return DomainLesson(
        kind=kind,
        domain=domain,
        instance=instance,
        answer=answer,
        demonstration=write_solution(claims, answer),
        response=response,
        target=write_reflection(truth.idea, response[truth.start : truth.end]),
    )


def _reflect_right(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    claims, answer = domain.solve(instance)
    return DomainLesson(
        kind=kind,
        domain=domain,
        instance=instance,
        answer=answer,
        response=write_solution(claims, answer),
        target=write_reflection(write_idea(claims, answer, 0)),
    )


def _guided(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    """Make the facts that the privileged text states certain; all others stay as shaky as they were."""
    claims, answer = domain.solve(instance)
    first = 0
    if kind == "idea":
        response = faulty_solution(domain, instance, rng) if rng.random() < 0.75 else write_solution(claims, answer)
        first = max(0, first_error(domain, instance, response).step)
    known = _facts(domain, instance)[0 if "solution" in kind else first :]
    target = write_solution(*domain.claims(instance, sampled_belief(rng, frozenset(known))))
    return DomainLesson(
        kind=kind,
        domain=domain,
        instance=instance,
        answer=answer,
        demonstration=write_solution(claims, answer),
        idea=write_idea(claims, answer, first),
        target=target,
    )


def _unrelated(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    """Show another problem's solution: only the facts that also occur in it are certain."""
    other = domain.draw(rng, len(instance.moves))
    target = write_solution(*domain.claims(instance, sampled_belief(rng, frozenset(_facts(domain, other)))))
    return DomainLesson(
        kind="solution",
        domain=domain,
        instance=instance,
        answer=domain.solve(instance)[1],
        demonstration=write_solution(*domain.solve(other)),
        target=target,
    )


def _feedback(kind: str, domain: Domain, instance: Instance, rng: random.Random) -> DomainLesson:
    """After feedback `right`, solve correctly; after `wrong`, follow a belief with another answer, or else solve correctly."""
    attempt = domain.claims(instance, sampled_belief(rng))[1]
    answer = domain.solve(instance)[1]
    solution = domain.solve(instance)
    if attempt != answer:
        tries = (domain.claims(instance, sampled_belief(rng)) for _ in range(4))
        solution = next((claims for claims in tries if claims[1] != attempt), solution)
    return DomainLesson(
        kind=kind,
        domain=domain,
        instance=instance,
        answer=answer,
        response=f"Answer : {attempt} .",
        target=write_solution(*solution),
    )


_LESSONS: dict[str, Callable[[str, Domain, Instance, random.Random], DomainLesson]] = {
    "solve": _solve,
    "reflect_wrong": _reflect_wrong,
    "reflect_right": _reflect_right,
    "idea": _guided,
    "solution": _guided,
    "solution_and_idea": _guided,
    "unrelated": _unrelated,
    "feedback": _feedback,
}


def _facts(domain: Domain, instance: Instance) -> list[Fact]:
    """Return the facts that the right solution uses, in order."""
    facts: list[Fact] = []

    def record(domain: Domain, fact: Fact) -> Result:
        facts.append(fact)
        return domain.truth(fact)

    domain.claims(instance, record)
    return facts


def faulty_solution(domain: Domain, instance: Instance, rng: random.Random) -> str:
    """Return a solution with at least one error: most from beliefs, some from slips, a few malformed."""
    while True:
        roll = rng.random()
        if roll < 0.55:
            text = write_solution(*domain.claims(instance, sampled_belief(rng)))
        elif roll < 0.9:
            text = _with_slip(domain, instance, rng)
        else:
            text = _malformed(domain, instance, rng)
        if first_error(domain, instance, text).status != "none":
            return text


def _with_slip(domain: Domain, instance: Instance, rng: random.Random) -> str:
    """Make one wrong claim at a random move and continue correctly from its result."""
    at, count = rng.randrange(len(instance.moves)), 0

    def believe(domain: Domain, fact: Fact) -> Result:
        nonlocal count
        count += 1
        return domain.near_miss(fact, rng) if count - 1 == at else domain.truth(fact)

    return write_solution(*domain.claims(instance, believe))


def _malformed(domain: Domain, instance: Instance, rng: random.Random) -> str:
    """Leave out a move, give a wrong answer after right claims, or stop early."""
    claims, answer = domain.solve(instance)
    shape = rng.randrange(3)
    if shape == 0:
        del claims[rng.randrange(len(claims))]
        return write_solution(claims, answer)
    if shape == 1:
        other = domain.draw(rng, len(instance.moves))
        return write_solution(claims, domain.solve(other)[1])
    words = write_solution(claims, answer).split()
    return " ".join(words[: rng.randint(4, len(words) - 2)])
