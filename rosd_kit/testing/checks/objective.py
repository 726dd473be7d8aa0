"""The laws of objectives: what the gate and the localizer said is obeyed, and the loss moves the student alone."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from rosd_kit.contracts import Objective, TokenScores
from rosd_kit.testing.builders import fake_sample
from rosd_kit.testing.check import Bench, check, demand, does_not_apply, with_parts
from rosd_kit.testing.numbers import extreme_scores, fake_scores, random_logits, rows
from rosd_kit.types import DistillSample


def _samples() -> dict[str, DistillSample]:
    return {
        "a failure": fake_sample(),
        "a success": fake_sample(reward=1.0, success=True),
        "a partly weighted response": fake_sample(token_weights=(0.0, 0.0, 0.5, 1.0, 1.0, 1.0)),
        "a response without weight": fake_sample(token_weights=(0.0,) * 6),
        "one token": fake_sample(length=1, success=True, reward=1.0),
        "no teacher's prompt": fake_sample(teacher_views=0, success=True, reward=1.0),
        "several teacher's prompts": fake_sample(teacher_views=3),
        "a group of one": fake_sample(group_rewards=(1.0,), reward=1.0, success=True),
        "a group of equals": fake_sample(group_rewards=(0.5, 0.5, 0.5), reward=0.5),
    }


def _scored(objective: Objective, scores: TokenScores) -> TokenScores:
    return scores if objective.needs_teacher else replace(scores, teacher=None)


@check("objective")
def check_one_weight_a_token(objective: Objective, bench: Bench) -> None:
    """`token_weights` returns one finite number >= 0 for each response token."""
    for name, sample in _samples().items():
        found = objective.token_weights(sample)
        demand(len(found) == len(sample.response_ids), f"{name}: {len(found)} weights for {len(sample.response_ids)} tokens")
        demand(all(math.isfinite(w) and w >= 0 for w in found), f"{name}: the weights are {list(found)}")


@check("objective")
def check_obeys_the_gate(objective: Objective, bench: Bench) -> None:
    """A sample routed to another term has no weight in this one; the gate's weight of a sample is a factor of its weights."""
    for name, sample in _samples().items():
        elsewhere = objective.token_weights(replace(sample, route="no_such_term"))
        demand(not any(elsewhere), f"{name}: routed to another term its weights are {list(elsewhere)}")
        mine = objective.token_weights(replace(sample, route=objective.name))
        demand(list(mine) == list(objective.token_weights(sample)), f"{name}: routed to this term its weights are {list(mine)}")
        once, twice = (objective.token_weights(replace(sample, weight=w)) for w in (1.0, 2.0))
        doubled = all(math.isclose(2 * a, b, abs_tol=1e-9) for a, b in zip(once, twice, strict=True))
        demand(doubled, f"{name}: weights {list(once)} become {list(twice)} where the gate's weight is 2")


@check("objective")
def check_needs_a_teachers_prompt(objective: Objective, bench: Bench) -> None:
    """With `needs_teacher`, a sample without a teacher's prompt has no weight: there is nothing to compare with."""
    if not objective.needs_teacher:
        raise does_not_apply("it needs no teacher")
    found = objective.token_weights(fake_sample(teacher_views=0, success=True, reward=1.0))
    demand(not any(found), f"a sample without a teacher's prompt has the weights {list(found)}")


@check("objective")
def check_advantage_is_finite(objective: Objective, bench: Bench) -> None:
    """`advantage` is a finite number, also for a group of one and a group of equal rewards."""
    for name, sample in _samples().items():
        found = objective.advantage(sample)
        demand(isinstance(found, float | int) and math.isfinite(found), f"{name}: the advantage is {found!r}")


@check("objective")
def check_loss_is_finite(objective: Objective, bench: Bench) -> None:
    """`per_token` returns `[tokens]` finite losses with finite gradients, also for ratios and logits far out.

    With `needs_teacher = False` the teacher is None.
    """
    objective = with_parts(objective)
    for name, scores in {"an ordinary chunk": fake_scores(), "one token": fake_scores(tokens=1), **extreme_scores()}.items():
        found = objective.per_token(_scored(objective, scores))
        demand(found.shape == scores.sampled.shape, f"{name}: shape {tuple(found.shape)} for {len(scores.sampled)} tokens")
        demand(torch.isfinite(found).all(), f"{name}: {found.tolist()}")
        gradients = torch.autograd.grad(found.sum(), (scores.student,), allow_unused=True, retain_graph=True)
        demand(all(g is None or torch.isfinite(g).all() for g in gradients), f"{name}: the gradient is not finite")


@check("objective")
def check_gradient_to_the_student_alone(objective: Objective, bench: Bench) -> None:
    """The loss is differentiable in the student's logits, through `student` or `current`, and never in the teacher's."""
    objective = with_parts(objective)
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
    found = objective.per_token(_scored(objective, scores))
    demand(found.requires_grad, "the loss carries no gradient")
    mine, its = torch.autograd.grad(found.sum(), (logits, teacher), allow_unused=True)
    demand(mine is not None and mine.abs().max() > 0, "no gradient reaches the student")
    demand(its is None or not its.any(), "a gradient reaches the teacher; detach its log-probs")


@check("objective")
def check_tokens_are_independent(objective: Objective, bench: Bench) -> None:
    """A token's loss does not depend on its neighbours: tokens are cut into chunks that fit the memory."""
    objective = with_parts(objective)
    scores = _scored(objective, fake_scores())
    together = objective.per_token(scores)
    alone = torch.cat([objective.per_token(rows(scores, torch.tensor([i]))) for i in range(len(scores.sampled))])
    demand(torch.allclose(together, alone, atol=1e-5), f"{together.tolist()} together, {alone.tolist()} alone")
