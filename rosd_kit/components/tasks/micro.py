"""The laboratory's task: trains on procedural problems of one domain and evaluates on all of them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from rosd_kit.contracts import Task
from rosd_kit.micro.corpus import draw_instance
from rosd_kit.micro.domains import DOMAINS, SUITES
from rosd_kit.micro.domains.base import Domain, Instance, first_error, write_solution
from rosd_kit.types import FirstError, Problem


class Micro(Task):
    """Procedural reasoning problems whose first error is known exactly, for any response."""

    name = "micro"
    provides = frozenset({"solution", "oracle"})

    class Config(Task.Config):
        """Options of `micro`."""

        train: Literal["sums", "sums_long", "coins", "clock", "colours"] = "sums"
        """Suite to train on; the other suites measure skill outside the trained domain."""
        system: str | None = None
        """The system message; null for none. The embedded model knows how to answer; others have to be told."""

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        return [self._problem(self.config.train, f"train-{seed}-{step}-{i}") for i in range(count)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        order = [self.config.train, *(suite for suite in SUITES if suite != self.config.train)]
        return {suite: [self._problem(suite, f"test-{seed}-{i}") for i in range(count)] for suite in order}

    def in_domain(self) -> frozenset[str]:
        return frozenset({self.config.train})

    def first_error(self, problem: Problem, text: str) -> FirstError:
        return first_error(DOMAINS[problem.meta["domain"]], problem.meta["instance"], text)

    def _problem(self, suite: str, name: str) -> Problem:
        """Return the problem with this suite and name; the name is the whole seed."""
        problem = as_problem(
            *draw_instance(random.Random(f"{suite} {name}"), *SUITES[suite]), suite=suite, id=f"{suite}-{name}"
        )
        if not self.config.system:
            return problem
        return replace(problem, messages=({"role": "system", "content": self.config.system}, *problem.messages))


def as_problem(domain: Domain, instance: Instance, *, suite: str, id: str) -> Problem:
    """Turn an instance into a problem with its answer and canonical solution."""
    claims, answer = domain.solve(instance)
    return Problem(
        id=id,
        suite=suite,
        messages=({"role": "user", "content": domain.question(instance)},),
        answer=answer,
        solution=write_solution(claims, answer),
        meta={"domain": domain.name, "instance": instance},
    )
