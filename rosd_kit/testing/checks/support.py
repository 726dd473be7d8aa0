"""The laws of supports: both sides on the same entries, as distributions, in tensors a loss can be built on."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Projection, Support
from rosd_kit.testing.check import Bench, check, demand, does_not_apply
from rosd_kit.testing.numbers import Pair, extreme_pairs, log_probs, ordinary_pairs


def _sampled(pair: Pair) -> Tensor:
    tokens, size = pair[0].shape
    return torch.arange(tokens) % size


def _projected(support: Support, pair: Pair) -> Projection:
    return support.project(*log_probs(pair), _sampled(pair))


@check("support")
def check_one_row_a_token(support: Support, bench: Bench) -> None:
    """Student and teacher come back as `[tokens, k]` of one shape, k at least 1, also where the vocabulary is tiny."""
    for name, pair in ordinary_pairs().items():
        found = _projected(support, pair)
        same = found.student.shape == found.teacher.shape and found.student.dim() == 2
        demand(same, f"{name}: shapes {tuple(found.student.shape)} and {tuple(found.teacher.shape)}")
        demand(
            found.student.shape[0] == len(pair[0]) and found.student.shape[1] > 0, f"{name}: shape {tuple(found.student.shape)}"
        )


@check("support")
def check_rows_are_distributions(support: Support, bench: Bench) -> None:
    """Each row's probabilities sum to 1 on both sides, unless the projection says `sampled`."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        found = _projected(support, pair)
        if found.sampled:
            raise does_not_apply("it compares the sampled token alone")
        for side, logp in (("student", found.student), ("teacher", found.teacher)):
            mass = logp.float().exp().sum(-1)
            demand(torch.allclose(mass, torch.ones_like(mass), atol=2e-2 if name == "bfloat16" else 1e-3),
                   f"{name}: the {side}'s rows sum to {mass.tolist()}")  # fmt: skip


@check("support")
def check_sampled_is_the_sampled_token(support: Support, bench: Bench) -> None:
    """A projection that says `sampled` holds one entry a token: the log-prob of the token that was sampled."""
    for name, pair in ordinary_pairs().items():
        found, index = _projected(support, pair), _sampled(pair)[:, None]
        if not found.sampled:
            raise does_not_apply("it compares more than the sampled token")
        for side, logp, whole in zip(("student", "teacher"), (found.student, found.teacher), log_probs(pair), strict=True):
            demand(torch.allclose(logp, whole.gather(1, index)), f"{name}: the {side}'s entry is another token's")


@check("support")
def check_no_nan(support: Support, bench: Bench) -> None:
    """Neither a NaN nor a positive log-prob comes of logits of 10000 or probabilities of 0, nor a NaN in the gradient."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        logits = pair[0].clone().requires_grad_()
        found = support.project(logits.log_softmax(-1), pair[1].log_softmax(-1), _sampled(pair))
        for side, logp in (("student", found.student), ("teacher", found.teacher)):
            demand(not logp.isnan().any() and (logp <= 2e-2).all(), f"{name}: the {side}'s log-probs are {logp.tolist()}")
        (gradient,) = torch.autograd.grad(found.student.clamp_min(-1e9).sum(), logits)
        demand(not gradient.isnan().any(), f"{name}: the gradient in the student's logits holds a NaN")


@check("support")
def check_gradient_to_the_student(support: Support, bench: Bench) -> None:
    """The projected student is differentiable in the student's log-probs."""
    for name, pair in ordinary_pairs().items():
        student, teacher = log_probs(pair)
        found = support.project(student.requires_grad_(), teacher, _sampled(pair)).student
        demand(found.requires_grad, f"{name}: the projected student carries no gradient")
        (gradient,) = torch.autograd.grad((found * found.detach()).sum(), student)
        demand(gradient.any(), f"{name}: the gradient is 0 everywhere")


@check("support")
def check_equal_stays_equal(support: Support, bench: Bench) -> None:
    """Where student and teacher agree they agree on the support; weakened by `may_change_teacher = True`."""
    if support.may_change_teacher:
        raise does_not_apply("it claims may_change_teacher")
    for name, (student, _) in ordinary_pairs().items():
        found = _projected(support, (student, student.clone()))
        demand(torch.allclose(found.student, found.teacher, atol=1e-5), f"{name}: equal distributions come back different")


@check("support")
def check_tokens_are_independent(support: Support, bench: Bench) -> None:
    """A token's row does not depend on its neighbours: tokens are cut into chunks that fit the memory."""
    for name, pair in ordinary_pairs().items():
        together = _projected(support, pair)
        for row in range(len(pair[0])):
            student, teacher = (logp[row : row + 1] for logp in log_probs(pair))
            alone = support.project(student, teacher, _sampled(pair)[row : row + 1])
            for side in ("student", "teacher"):
                one, other = getattr(together, side)[row].sort().values, getattr(alone, side)[0].sort().values
                demand(one.shape == other.shape and torch.allclose(one, other, atol=1e-5), f"{name}: token {row} differs alone")
