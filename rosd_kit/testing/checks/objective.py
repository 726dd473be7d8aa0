"""The laws of objectives: they obey the gate's routes and weights, and the loss trains the student only."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from rosd_kit.contracts import Objective, TokenScores
from rosd_kit.testing.builders import fake_sample
from rosd_kit.testing.check import Bench, check, does_not_apply, require, with_loss_parts
from rosd_kit.testing.numbers import extreme_scores, fake_scores, random_logits, rows
from rosd_kit.types import DistillSample


def _samples() -> dict[str, DistillSample]:
    return {
        "a failure": fake_sample(),
        "a success": fake_sample(reward=1.0, success=True),
        "a response with different weights": fake_sample(token_weights=(0.0, 0.0, 0.5, 1.0, 1.0, 1.0)),
        "a response without weight": fake_sample(token_weights=(0.0,) * 6),
        "one token": fake_sample(length=1, success=True, reward=1.0),
        "no teacher view": fake_sample(teacher_views=0, success=True, reward=1.0),
        "several teacher views": fake_sample(teacher_views=3),
        "a group of one": fake_sample(group_rewards=(1.0,), reward=1.0, success=True),
        "a group of equal rewards": fake_sample(group_rewards=(0.5, 0.5, 0.5), reward=0.5),
    }


def _scores_for(objective: Objective, scores: TokenScores) -> TokenScores:
    """Return the scores as the engine passes them: an objective that needs no teacher gets none."""
    return scores if objective.needs_teacher else replace(scores, teacher=None)


@check("objective")
def check_one_weight_per_token(objective: Objective, bench: Bench) -> None:
    """`token_weights` returns one finite number >= 0 per response token."""
    for name, sample in _samples().items():
        weights = objective.token_weights(sample)
        require(
            len(weights) == len(sample.response_ids), f"{name}: {len(weights)} weights for {len(sample.response_ids)} tokens"
        )
        require(all(math.isfinite(w) and w >= 0 for w in weights), f"{name}: the weights are {list(weights)}")


@check("objective")
def check_respects_the_gate(objective: Objective, bench: Bench) -> None:
    """A sample routed to another term has weight 0 in this one; token weights are proportional to the gate's weight."""
    for name, sample in _samples().items():
        elsewhere = objective.token_weights(replace(sample, route="no_such_term"))
        require(not any(elsewhere), f"{name}: routed to another term, its weights are {list(elsewhere)}")
        here = objective.token_weights(replace(sample, route=objective.name))
        require(
            list(here) == list(objective.token_weights(sample)), f"{name}: routed to this term, its weights are {list(here)}"
        )
        once, twice = (objective.token_weights(replace(sample, weight=w)) for w in (1.0, 2.0))
        doubled = all(math.isclose(2 * a, b, abs_tol=1e-9) for a, b in zip(once, twice, strict=True))
        require(doubled, f"{name}: weights {list(once)} become {list(twice)} when the gate's weight is 2")


@check("objective")
def check_needs_a_teachers_prompt(objective: Objective, bench: Bench) -> None:
    """With `needs_teacher`, a sample without a teacher view has weight 0: there is nothing to compare with."""
    if not objective.needs_teacher:
        raise does_not_apply("it needs no teacher")
    weights = objective.token_weights(fake_sample(teacher_views=0, success=True, reward=1.0))
    require(not any(weights), f"a sample without a teacher view has the weights {list(weights)}")


@check("objective")
def check_advantage_is_finite(objective: Objective, bench: Bench) -> None:
    """`advantage` is a finite number, even for a group of one and a group of equal rewards."""
    for name, sample in _samples().items():
        advantage = objective.advantage(sample)
        require(isinstance(advantage, float | int) and math.isfinite(advantage), f"{name}: the advantage is {advantage!r}")


@check("objective")
def check_loss_is_finite(objective: Objective, bench: Bench) -> None:
    """`per_token` returns `[tokens]` finite losses with finite gradients, even for extreme ratios and logits.

    With `needs_teacher = False` the teacher is None.
    """
    objective = with_loss_parts(objective)
    for name, scores in {"an ordinary chunk": fake_scores(), "one token": fake_scores(tokens=1), **extreme_scores()}.items():
        losses = objective.per_token(_scores_for(objective, scores))
        require(losses.shape == scores.sampled.shape, f"{name}: shape {tuple(losses.shape)} for {len(scores.sampled)} tokens")
        require(torch.isfinite(losses).all(), f"{name}: the losses are {losses.tolist()}")
        (gradient,) = torch.autograd.grad(losses.sum(), scores.student, allow_unused=True, retain_graph=True)
        require(gradient is None or torch.isfinite(gradient).all(), f"{name}: the gradient is not finite")


@check("objective")
def check_gradient_to_the_student_alone(objective: Objective, bench: Bench) -> None:
    """The gradient of the loss reaches the student's logits, through `student` or `current`, and never the teacher's."""
    objective = with_loss_parts(objective)
    logits, teacher = random_logits(0).requires_grad_(), random_logits(1).requires_grad_()
    student = logits.log_softmax(-1)
    sampled = torch.tensor([1, 2, 3, 4])
    current = student.gather(1, sampled[:, None]).squeeze(1)
    scores = TokenScores(
        student=student,
        teacher=teacher.log_softmax(-1),
        sampled=sampled,
        behaviour=current.detach() - 0.1,
        current=current,
        advantage=torch.ones(4),
    )
    losses = objective.per_token(_scores_for(objective, scores))
    require(losses.requires_grad, "the loss carries no gradient")
    to_student, to_teacher = torch.autograd.grad(losses.sum(), (logits, teacher), allow_unused=True)
    require(to_student is not None and to_student.abs().max() > 0, "no gradient reaches the student")
    require(to_teacher is None or not to_teacher.any(), "a gradient reaches the teacher; detach its logprobs")


@check("objective")
def check_tokens_are_independent(objective: Objective, bench: Bench) -> None:
    """A token's loss does not depend on its neighbours: the engine splits tokens into chunks that fit in memory."""
    objective = with_loss_parts(objective)
    scores = _scores_for(objective, fake_scores())
    together = objective.per_token(scores)
    alone = torch.cat([objective.per_token(rows(scores, torch.tensor([i]))) for i in range(len(scores.sampled))])
    require(torch.allclose(together, alone, atol=1e-5), f"{together.tolist()} together, {alone.tolist()} alone")
