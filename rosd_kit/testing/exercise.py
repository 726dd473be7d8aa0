"""Uses a component of each slot the way a run uses it. The laws that hold in every slot compare the results.

An exercise returns plain values that `difference` can compare.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from rosd_kit.testing import examples
from rosd_kit.testing.builders import fake_generate, fake_sample
from rosd_kit.testing.check import Bench
from rosd_kit.testing.numbers import Pair, fake_scores, log_probs, ordinary_pairs
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import Case, Group, Problem


@dataclass(frozen=True)
class Exercise:
    """A slot's inputs, made anew at each call, and the use of a component with them."""

    inputs: Callable[[Bench], Any]
    use: Callable[[Any, Any], object]  # takes a component of the slot, and what `inputs` returns for it


def exercise_of(component: Component) -> Exercise | None:
    """Return how components of this slot are used; None for slots that need more than plain values (engines, teachers)."""
    return _EXERCISES.get(component.kind)


def _task(task: Task, seeds: Sequence[int]) -> object:
    return [
        (task.train_batch(step=step, count=3, seed=seed), task.suites(count=2, seed=seed)) for step, seed in enumerate(seeds)
    ]


def _texts(bench: Bench) -> tuple[Problem, list[str]]:
    texts = list(adversarial_texts(bench.problem).values())
    return bench.problem, [*texts[:14], f"Answer : {bench.problem.answer}", "Answer : 7 ."]


def _verifier(verifier: Verifier, inputs: tuple[Problem, list[str]]) -> object:
    problem, texts = inputs
    return [verifier.verify(problem, text) for text in texts], verifier.verify_group(problem, texts)


def _gate(gate: Gate, groups: Sequence[Group]) -> object:
    return [gate.decide(group) for group in groups]


def _demonstration(demonstration: Demonstration, batch: Sequence[Group]) -> object:
    return [demonstration.views(group, r, batch, random.Random(7 + r.index)) for group in batch for r in group.rollouts]


def _reflector(reflector: Reflector, cases: Sequence[Case]) -> object:
    generate = fake_generate("<error_quote>25 + 4 = 30</error_quote><explanation>It is 29 .</explanation>", "garbage", "")
    return reflector.reflect(cases, generate), generate.prompts, generate.samplings


def _localizer(localizer: Localizer, cases: Sequence[Case]) -> object:
    return [localizer.locate(case) for case in cases]


def _context(context: Context, cases: Sequence[Case]) -> object:
    return [context.prompts(case) for case in cases]


def _pairs(bench: Bench) -> list[Pair]:
    return [log_probs(pair) for pair in ordinary_pairs().values()]


def _support(support: Support, pairs: Sequence[Pair]) -> object:
    return [support.project(student, teacher, student.argmin(-1)) for student, teacher in pairs]


def _divergence(divergence: Divergence, pairs: Sequence[Pair]) -> object:
    return [divergence.per_token(student, teacher) for student, teacher in pairs]


def _correction(correction: Correction, pairs: Sequence[Pair]) -> object:
    return [correction.weigh(behaviour[:, 0], current[:, 0]) for behaviour, current in pairs]


def _scores(bench: Bench) -> TokenScores:
    scores = fake_scores()
    return replace(scores, student=scores.student.detach(), current=scores.current.detach())


def _objective(objective: Objective, scores: TokenScores) -> object:
    samples = [fake_sample(), fake_sample(success=True, reward=1.0), fake_sample(teacher_views=0)]
    scores = scores if objective.needs_teacher else replace(scores, teacher=None)
    return objective.per_token(scores), [(objective.token_weights(s), objective.advantage(s)) for s in samples]


def _cases(bench: Bench) -> list[Case]:
    return list(examples.cases(bench).values())


def _groups(bench: Bench) -> list[Group]:
    return list(examples.groups(bench).values())


_EXERCISES: dict[str, Exercise] = {
    "task": Exercise(lambda bench: [5, 5, 6], _task),
    "verifier": Exercise(_texts, _verifier),
    "gate": Exercise(_groups, _gate),
    "demonstration": Exercise(_groups, _demonstration),
    "reflector": Exercise(_cases, _reflector),
    "localizer": Exercise(_cases, _localizer),
    "context": Exercise(_cases, _context),
    "support": Exercise(_pairs, _support),
    "divergence": Exercise(_pairs, _divergence),
    "correction": Exercise(_pairs, _correction),
    "objective": Exercise(_scores, _objective),
}
