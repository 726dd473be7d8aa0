"""What a component does when it is used as a run would use it, once a slot: the laws of every slot are about this.

A trial returns plain values that can be compared, so that two trials of equal components can be told apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from rosd_kit.contracts import (
    Component,
    Context,
    Correction,
    Demonstration,
    Divergence,
    Gate,
    Localizer,
    Objective,
    Reflector,
    Support,
    Task,
    TokenScores,
    Verifier,
)
from rosd_kit.testing.builders import fake_generate, fake_sample
from rosd_kit.testing.check import Bench
from rosd_kit.testing.examples import cases, groups
from rosd_kit.testing.numbers import fake_scores, log_probs, ordinary_pairs
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import Case, Group, Problem


@dataclass(frozen=True)
class Exercise:
    """A slot's inputs, made anew at each call, and what a component makes of them."""

    inputs: Callable[[Bench], Any]
    use: Callable[[Any, Any], Any]


def exercise_of(component: Component) -> Exercise | None:
    """Return how components of this slot are used, or None where they need more than values (engines, teachers)."""
    return _EXERCISES.get(component.kind)


def _task(task: Task, seeds: Sequence[int]) -> Any:
    return [
        (task.train_batch(step=step, count=3, seed=seed), task.suites(count=2, seed=seed)) for step, seed in enumerate(seeds)
    ]


def _texts(bench: Bench) -> tuple[Problem, list[str]]:
    said = list(adversarial_texts(bench.problem).values())
    return bench.problem, [*said[:14], f"Answer : {bench.problem.answer}", "Answer : 7 ."]


def _verifier(verifier: Verifier, asked: tuple[Problem, list[str]]) -> Any:
    problem, said = asked
    return [verifier.verify(problem, text) for text in said], verifier.verify_group(problem, said)


def _gate(gate: Gate, given: Sequence[Group]) -> Any:
    return [gate.decide(group) for group in given]


def _demonstration(demonstration: Demonstration, batch: Sequence[Group]) -> Any:
    return [demonstration.views(group, r, batch, random.Random(7 + r.index)) for group in batch for r in group.rollouts]


def _reflector(reflector: Reflector, given: Sequence[Case]) -> Any:
    generate = fake_generate("<error_quote>25 + 4 = 30</error_quote><explanation>It is 29 .</explanation>", "garbage", "")
    return reflector.reflect(given, generate), generate.prompts, generate.samplings


def _localizer(localizer: Localizer, given: Sequence[Case]) -> Any:
    return [localizer.locate(case) for case in given]


def _context(context: Context, given: Sequence[Case]) -> Any:
    return [context.prompts(case) for case in given]


def _pairs(bench: Bench) -> list[tuple[Tensor, Tensor]]:
    return [log_probs(pair) for pair in ordinary_pairs().values()]


def _support(support: Support, given: Sequence[tuple[Tensor, Tensor]]) -> Any:
    return [support.project(s, t, s.argmin(-1)) for s, t in given]


def _divergence(divergence: Divergence, given: Sequence[tuple[Tensor, Tensor]]) -> Any:
    return [divergence.per_token(s, t) for s, t in given]


def _correction(correction: Correction, given: Sequence[tuple[Tensor, Tensor]]) -> Any:
    return [correction.weigh(s[:, 0], t[:, 0]) for s, t in given]


def _scores(bench: Bench) -> TokenScores:
    scores = fake_scores()
    return replace(scores, student=scores.student.detach(), current=scores.current.detach())


def _objective(objective: Objective, scores: TokenScores) -> Any:
    samples = [fake_sample(), fake_sample(success=True, reward=1.0), fake_sample(teacher_views=0)]
    told = scores if objective.needs_teacher else replace(scores, teacher=None)
    return objective.per_token(told), [(objective.token_weights(s), objective.advantage(s)) for s in samples]


def _cases(bench: Bench) -> list[Case]:
    return list(cases(bench).values())


_EXERCISES: dict[str, Exercise] = {
    "task": Exercise(lambda bench: [5, 5, 6], _task),
    "verifier": Exercise(_texts, _verifier),
    "gate": Exercise(lambda bench: list(groups(bench).values()), _gate),
    "demonstration": Exercise(lambda bench: list(groups(bench).values()), _demonstration),
    "reflector": Exercise(_cases, _reflector),
    "localizer": Exercise(_cases, _localizer),
    "context": Exercise(_cases, _context),
    "support": Exercise(_pairs, _support),
    "divergence": Exercise(_pairs, _divergence),
    "correction": Exercise(_pairs, _correction),
    "objective": Exercise(_scores, _objective),
}
