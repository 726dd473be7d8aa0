"""The second laboratory's task: journeys whose solutions leave choices, in worlds that share skills and no facts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from rosd_kit.contracts import Task
from rosd_kit.errors import RecipeError
from rosd_kit.micro.reasoning.manner import manner
from rosd_kit.micro.reasoning.oracle import first_error
from rosd_kit.micro.reasoning.solver import canonical
from rosd_kit.micro.reasoning.text import write
from rosd_kit.micro.reasoning.worlds import SUITES, Journey, draw_journey
from rosd_kit.types import FirstError, Problem


class MicroReasoning(Task):
    """Procedural problems that can be solved in many orders and ways; the first error of any response is known exactly.

    Errors that a response repairs later are no errors.
    """

    name = "micro_reasoning"
    provides = frozenset({"solution", "oracle"})

    class Config(Task.Config):
        """Options of `micro_reasoning`."""

        train: Literal["woods", "woods_long", "docks", "mines", "gates"] = "woods"
        """Suite to train on; the other suites measure skill outside the trained domain."""
        train_problems: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
        """Size of the training set, which is gone through in a new order in each epoch; null draws new problems for ever."""

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        size, suite = self.config.train_problems, self.config.train
        if size is None:
            return [_problem(suite, f"train-{seed}-{step}-{i}") for i in range(count)]
        if count > size:
            raise RecipeError(
                f"task.train_problems: {size} problems cannot fill a step of problems_per_step={count} different ones. "
                f"Set task.train_problems to {count} or more, or fewer problems_per_step."
            )
        return [_problem(suite, f"set-{seed}-{index}") for index in _indices(size, step, count, seed)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        order = [self.config.train, *(suite for suite in SUITES if suite != self.config.train)]
        return {suite: [_problem(suite, f"test-{seed}-{i}") for i in range(count)] for suite in order}

    def in_domain(self) -> frozenset[str]:
        return frozenset({self.config.train})

    def first_error(self, problem: Problem, text: str) -> FirstError:
        return first_error(problem.meta["journey"], text)

    def traits(self, problem: Problem, text: str) -> Mapping[str, float]:
        return manner(text)


def as_problem(journey: Journey, *, suite: str, id: str) -> Problem:
    """Turn a journey into a problem with its answer and canonical solution."""
    return Problem(
        id=id,
        suite=suite,
        messages=({"role": "user", "content": journey.question()},),
        answer=journey.answer(),
        solution=write(canonical(journey)),
        meta={"domain": journey.world, "journey": journey},
    )


def _problem(suite: str, name: str) -> Problem:
    """Return the problem with this suite and name; the name is the whole seed."""
    return as_problem(draw_journey(random.Random(f"{suite} {name}"), *SUITES[suite]), suite=suite, id=f"{suite}-{name}")


def _indices(size: int, step: int, count: int, seed: int) -> list[int]:
    """Return a step's problems: `count` of each epoch's order in turn; what an epoch has left over is not shown in it."""
    epoch, place = divmod(step, size // count)
    order = list(range(size))
    random.Random(f"epoch {seed} {epoch}").shuffle(order)
    return order[place * count : (place + 1) * count]
