"""The laws of supports: student and teacher on the same entries, as distributions that a loss can differentiate."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Projection, Support
from rosd_kit.testing.check import Bench, check, does_not_apply, require
from rosd_kit.testing.numbers import Pair, extreme_pairs, log_probs, ordinary_pairs


def _sampled(pair: Pair) -> Tensor:
    tokens, size = pair[0].shape
    return torch.arange(tokens) % size


def _projected(support: Support, pair: Pair) -> Projection:
    return support.project(*log_probs(pair), _sampled(pair))


@check("support")
def check_one_row_per_token(support: Support, bench: Bench) -> None:
    """The projected student and teacher have the same shape `[tokens, k]`, k >= 1, even if the vocabulary is tiny."""
    for name, pair in ordinary_pairs().items():
        projection = _projected(support, pair)
        shape, other = tuple(projection.student.shape), tuple(projection.teacher.shape)
        require(shape == other and len(shape) == 2, f"{name}: shapes {shape} and {other}")
        require(shape[0] == len(pair[0]) and shape[1] > 0, f"{name}: shape {shape}")


@check("support")
def check_rows_are_distributions(support: Support, bench: Bench) -> None:
    """The probabilities of each row sum to 1 on both sides, unless the projection is `sampled`."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        projection = _projected(support, pair)
        if projection.sampled:
            raise does_not_apply("it compares the sampled token only")
        for side, logp in (("student", projection.student), ("teacher", projection.teacher)):
            mass = logp.float().exp().sum(-1)
            require(torch.allclose(mass, torch.ones_like(mass), atol=2e-2 if name == "bfloat16" else 1e-3),
                   f"{name}: the {side}'s rows sum to {mass.tolist()}")  # fmt: skip


@check("support")
def check_sampled_is_the_sampled_token(support: Support, bench: Bench) -> None:
    """A `sampled` projection has one entry per token: the logprob of the sampled token."""
    for name, pair in ordinary_pairs().items():
        projection, index = _projected(support, pair), _sampled(pair)[:, None]
        if not projection.sampled:
            raise does_not_apply("it compares more than the sampled token")
        for side, full in zip(("student", "teacher"), log_probs(pair), strict=True):
            logp = getattr(projection, side)
            require(torch.allclose(logp, full.gather(1, index)), f"{name}: the {side}'s entry belongs to another token")


@check("support")
def check_no_nan(support: Support, bench: Bench) -> None:
    """Logits of 10000 and probabilities of 0 give no NaN, no positive logprob, and no NaN in the gradient."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        logits = pair[0].clone().requires_grad_()
        projection = support.project(logits.log_softmax(-1), pair[1].log_softmax(-1), _sampled(pair))
        for side, logp in (("student", projection.student), ("teacher", projection.teacher)):
            require(not logp.isnan().any() and (logp <= 2e-2).all(), f"{name}: the {side}'s logprobs are {logp.tolist()}")
        (gradient,) = torch.autograd.grad(projection.student.clamp_min(-1e9).sum(), logits)
        require(not gradient.isnan().any(), f"{name}: the gradient with respect to the student's logits has a NaN")


@check("support")
def check_gradient_to_the_student(support: Support, bench: Bench) -> None:
    """The projected student is differentiable with respect to the student's logprobs."""
    for name, pair in ordinary_pairs().items():
        student, teacher = log_probs(pair)
        projected = support.project(student.requires_grad_(), teacher, _sampled(pair)).student
        require(projected.requires_grad, f"{name}: the projected student carries no gradient")
        (gradient,) = torch.autograd.grad((projected * projected.detach()).sum(), student)
        require(gradient.any(), f"{name}: the gradient is 0 everywhere")


@check("support")
def check_equal_inputs_stay_equal(support: Support, bench: Bench) -> None:
    """Equal distributions are equal on the support too; waived by `may_change_teacher = True`."""
    if support.may_change_teacher:
        raise does_not_apply("its class sets may_change_teacher = True")
    for name, (student, _) in ordinary_pairs().items():
        projection = _projected(support, (student, student.clone()))
        equal = torch.allclose(projection.student, projection.teacher, atol=1e-5)
        require(equal, f"{name}: equal distributions differ on the support")


@check("support")
def check_tokens_are_independent(support: Support, bench: Bench) -> None:
    """A token's row does not depend on its neighbours: the engine splits tokens into chunks that fit in memory."""
    for name, pair in ordinary_pairs().items():
        together = _projected(support, pair)
        for row in range(len(pair[0])):
            student, teacher = (logp[row : row + 1] for logp in log_probs(pair))
            alone = support.project(student, teacher, _sampled(pair)[row : row + 1])
            for side in ("student", "teacher"):
                one, other = getattr(together, side)[row].sort().values, getattr(alone, side)[0].sort().values
                require(
                    one.shape == other.shape and torch.allclose(one, other, atol=1e-5),
                    f"{name}: token {row} has another row alone",
                )
