"""Training lessons of `micro-reasoning`: solving by habit, reflecting, and solving with privileged text.

Privileged text is believed. Where a lesson ends in "like this", the text's manner is followed as well: its order, ways,
wordings and checks. Where it ends in "correctly", only its facts are taken. So one model can teach in both manners.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from rosd_kit.micro.lesson import Lesson, write_reflection
from rosd_kit.micro.reasoning.guide import Guide, facts_of, read_facts, steps_by_heart, steps_of
from rosd_kit.micro.reasoning.oracle import first_error, write_idea
from rosd_kit.micro.reasoning.solver import HABITS, solve
from rosd_kit.micro.reasoning.text import Answer, Statement, find_answer, write
from rosd_kit.micro.reasoning.worlds import SUITES, Journey, draw_journey
from rosd_kit.model.micro.words import PLACES

#: Share of each kind of lesson. Comparing two solutions is learned slowly, so reflection gets a third.
MIXTURE: dict[str, float] = {
    "solve": 0.34,
    "reflect_wrong": 0.30,
    "reflect_right": 0.03,
    "idea": 0.10,
    "solution": 0.09,
    "solution_and_idea": 0.02,
    "unrelated": 0.04,
    "feedback": 0.04,
    "wrong_solution": 0.04,
}
#: Relative frequency of each suite: lower for long problems, which cost more tokens.
SUITE_SHARES: dict[str, float] = {"woods": 1.0, "woods_long": 0.5, "docks": 1.0, "mines": 1.0, "gates": 1.0}
#: Share of lessons that end in "like this", by kind; the others end in "correctly".
LIKE: dict[str, float] = {"solution": 0.75, "idea": 0.3, "solution_and_idea": 0.75, "unrelated": 0.75, "wrong_solution": 0.75}
#: With what probability a choice follows a text that is to be followed.
FOLLOWS = 0.85


@dataclass(frozen=True, kw_only=True)
class JourneyLesson(Lesson):
    """A lesson about one problem of a suite."""

    suite: str
    journey: Journey
    like: bool = False
    """Whether the prompt asks to solve the problem like the text that it shows."""


def draw_lesson(rng: random.Random) -> JourneyLesson:
    """Draw a random lesson from the mixture."""
    kind = rng.choices(list(MIXTURE), weights=list(MIXTURE.values()))[0]
    suite = rng.choices(list(SUITE_SHARES), weights=list(SUITE_SHARES.values()))[0]
    journey, like = draw_journey(rng, *SUITES[suite]), rng.random() < LIKE.get(kind, 0.0)
    texts = _LESSONS[kind](journey, rng, FOLLOWS if like else 0.0)
    kind = "solution" if kind in ("unrelated", "wrong_solution") else kind
    return JourneyLesson(kind=kind, suite=suite, journey=journey, like=like, **texts)


def draw_demonstration(journey: Journey, rng: random.Random) -> list[Statement]:
    """Write a right solution: as the model would, tersely, or with care."""
    habits = replace(HABITS[journey.world], shaky=0.0, slip=0.0)
    roll = rng.random()
    if roll < 0.2:
        habits = replace(habits, slow=0.05, check=0.0, brings=rng.choice((0.0, 1.0)), stay=0.9)
    elif roll < 0.35:
        habits = replace(habits, slow=0.9)
    elif roll < 0.5:  # a rollout that happened to be right, mended errors included
        for _ in range(8):
            rollout = solve(journey, rng, HABITS[journey.world])
            if first_error(journey, write(rollout)).status == "none":
                return rollout
    return solve(journey, rng, habits)


def draw_wrong(journey: Journey, rng: random.Random) -> str:
    """Write a solution with an error and without the right answer: most from habit, a few malformed."""
    habits = HABITS[journey.world]
    while True:
        text = write(solve(journey, rng, habits)) if rng.random() < 0.9 else _malformed(journey, rng)
        if find_answer(text) != journey.answer():
            return text
        habits = replace(habits, slip=min(0.3, habits.slip + 0.05))


def _solve(journey: Journey, rng: random.Random, _: float) -> dict[str, str]:
    return {"target": write(solve(journey, rng, HABITS[journey.world]))}


def _reflect_wrong(journey: Journey, rng: random.Random, _: float) -> dict[str, str]:
    response = draw_wrong(journey, rng)
    truth = first_error(journey, response)
    return {
        "demonstration": write(draw_demonstration(journey, rng)),
        "response": response,
        "target": write_reflection(truth.idea, response[truth.start : truth.end]),
    }


def _reflect_right(journey: Journey, rng: random.Random, _: float) -> dict[str, str]:
    return {"response": write(draw_demonstration(journey, rng)), "target": write_reflection(write_idea(journey))}


def _idea(journey: Journey, rng: random.Random, follows: float) -> dict[str, str]:
    idea = first_error(journey, draw_wrong(journey, rng)).idea if rng.random() < 0.8 else write_idea(journey)
    facts = read_facts(idea)
    guide = Guide(facts=facts, steps=steps_by_heart(journey, facts), follows=follows)
    return {"idea": idea, "target": _guided(journey, rng, guide)}


def _solution(journey: Journey, rng: random.Random, follows: float) -> dict[str, str]:
    shown = draw_demonstration(journey, rng)
    guide = Guide(facts=facts_of(shown), steps=steps_of(shown), follows=follows)
    return {"demonstration": write(shown), "target": _guided(journey, rng, guide)}


def _solution_and_idea(journey: Journey, rng: random.Random, follows: float) -> dict[str, str]:
    idea = first_error(journey, draw_wrong(journey, rng)).idea
    return {**_solution(journey, rng, follows), "idea": idea}


def _unrelated(journey: Journey, rng: random.Random, follows: float) -> dict[str, str]:
    """Show another problem's solution: what it says of this world is believed, and its manner can be followed."""
    suite = rng.choice(list(SUITES)) if rng.random() < 0.3 else next(s for s in SUITES if SUITES[s][0] == journey.world)
    shown = draw_demonstration(draw_journey(rng, *SUITES[suite]), rng)
    guide = Guide(facts=facts_of(shown), steps=steps_of(shown), follows=follows, own=False)
    return {"demonstration": write(shown), "target": _guided(journey, rng, guide)}


def _wrong_solution(journey: Journey, rng: random.Random, follows: float) -> dict[str, str]:
    """Show a wrong solution as if it were right: it is believed all the same."""
    shown = solve(journey, rng, HABITS[journey.world])
    guide = Guide(facts=facts_of(shown), steps=steps_of(shown), follows=follows)
    return {"demonstration": write(shown), "target": _guided(journey, rng, guide)}


def _feedback(journey: Journey, rng: random.Random, _: float) -> dict[str, str]:
    """After `Wrong`, give another answer, the right one if four tries give the same; after `Right`, solve as before."""
    response = write(solve(journey, rng, HABITS[journey.world]))
    answer = find_answer(response)
    if answer == journey.answer():
        return {"response": response, "target": write(draw_demonstration(journey, rng))}
    tries = (write(solve(journey, rng, HABITS[journey.world])) for _ in range(4))
    other = next((text for text in tries if find_answer(text) != answer), None)
    return {"response": response, "target": other or write(draw_demonstration(journey, rng))}


def _guided(journey: Journey, rng: random.Random, guide: Guide) -> str:
    return write(solve(journey, rng, HABITS[journey.world], guide))


def _malformed(journey: Journey, rng: random.Random) -> str:
    """Leave out a move, give a wrong answer after right moves, or stop early."""
    right = solve(journey, rng, replace(HABITS[journey.world], shaky=0.0, slip=0.0, check=0.0))
    shape = rng.randrange(3)
    if shape == 0:
        del right[rng.randrange(len(right) - 1)]
        return write(right)
    if shape == 1:
        moved = tuple((who, (place + rng.randrange(PLACES)) % PLACES) for who, place in _answer(right).places)
        return write([*right[:-1], Answer(places=moved)])
    words = write(right).split()
    return " ".join(words[: rng.randint(4, len(words) - 2)])


def _answer(statements: list[Statement]) -> Answer:
    last = statements[-1]
    assert isinstance(last, Answer)
    return last


_LESSONS: dict[str, Callable[[Journey, random.Random, float], dict[str, str]]] = {
    "solve": _solve,
    "reflect_wrong": _reflect_wrong,
    "reflect_right": _reflect_right,
    "idea": _idea,
    "solution": _solution,
    "solution_and_idea": _solution_and_idea,
    "unrelated": _unrelated,
    "wrong_solution": _wrong_solution,
    "feedback": _feedback,
}
