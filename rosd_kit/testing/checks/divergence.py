"""The laws of divergences: nats per token that fall as the student comes nearer, and never a NaN."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Divergence
from rosd_kit.testing.check import Bench, check, demand, does_not_apply
from rosd_kit.testing.numbers import Pair, extreme_pairs, log_probs, ordinary_pairs

_EXACT = 1e-4


def _measured(divergence: Divergence, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the value at each token and the gradient in the student's logits."""
    student = pair[0].clone().requires_grad_()
    found = divergence.per_token(student.log_softmax(-1), pair[1].log_softmax(-1))
    if not found.requires_grad:
        return found.detach(), torch.zeros_like(student)
    (gradient,) = torch.autograd.grad(found.sum(), student, allow_unused=True)
    return found.detach(), torch.zeros_like(student) if gradient is None else gradient


@check("divergence")
def check_one_number_a_token(divergence: Divergence, bench: Bench) -> None:
    """`per_token` takes `[tokens, k]` and returns `[tokens]` floating point numbers."""
    for name, pair in ordinary_pairs().items():
        found = divergence.per_token(*log_probs(pair))
        demand(found.shape == pair[0].shape[:1], f"{name}: shape {tuple(found.shape)} for {tuple(pair[0].shape)} log-probs")
        demand(found.is_floating_point(), f"{name}: values of type {found.dtype}")


@check("divergence")
def check_finite(divergence: Divergence, bench: Bench) -> None:
    """Values and gradients are finite, also for logits of 10000 and probabilities of 0, where 0 log 0 is 0."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        value, gradient = _measured(divergence, pair)
        demand(torch.isfinite(value).all(), f"{name}: the values are {value.tolist()}")
        demand(torch.isfinite(gradient).all(), f"{name}: the gradient in the student's logits is not finite")


@check("divergence")
def check_zero_at_equality(divergence: Divergence, bench: Bench) -> None:
    """Where student and teacher agree it is 0, and so is its gradient; weakened by `may_differ_at_equality = True`."""
    if divergence.may_differ_at_equality:
        raise does_not_apply("it claims may_differ_at_equality")
    for name, (student, _) in ordinary_pairs().items():
        value, gradient = _measured(divergence, (student, student.clone()))
        demand(value.abs().max() < _EXACT, f"{name}: {value.tolist()} for equal distributions")
        demand(gradient.abs().max() < _EXACT, f"{name}: a gradient of {gradient.abs().max():g} for equal distributions")


@check("divergence")
def check_not_negative(divergence: Divergence, bench: Bench) -> None:
    """It is never negative; weakened by `may_be_negative = True`."""
    if divergence.may_be_negative:
        raise does_not_apply("it claims may_be_negative")
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        value = divergence.per_token(*log_probs(pair))
        demand((value >= -1e-5).all(), f"{name}: {value.tolist()}")


@check("divergence")
def check_gradient_to_the_student_alone(divergence: Divergence, bench: Bench) -> None:
    """The gradient reaches the student's log-probs where they differ from the teacher's, and never the teacher's."""
    for name, pair in ordinary_pairs().items():
        student, teacher = (logits.clone().requires_grad_() for logits in pair)
        value = divergence.per_token(student.log_softmax(-1), teacher.log_softmax(-1))
        demand(value.requires_grad, f"{name}: the result carries no gradient")
        to_student, to_teacher = torch.autograd.grad(value.sum(), (student, teacher), allow_unused=True)
        demand(to_student is not None and to_student.abs().max() > 0, f"{name}: no gradient reaches the student")
        demand(to_teacher is None or not to_teacher.any(), f"{name}: a gradient reaches the teacher; detach its log-probs")


@check("divergence")
def check_falls_along_its_gradient(divergence: Divergence, bench: Bench) -> None:
    """A small step of the student's logits against the gradient makes it smaller."""
    for name, (student, teacher) in ordinary_pairs().items():
        pair = (student.double(), teacher.double())
        before, gradient = _measured(divergence, pair)
        after, _ = _measured(divergence, (pair[0] - 1e-3 * gradient, pair[1]))
        demand(after.sum() <= before.sum() + 1e-9, f"{name}: it rises from {before.sum():.6g} to {after.sum():.6g}")


@check("divergence")
def check_tokens_are_independent(divergence: Divergence, bench: Bench) -> None:
    """A token's value does not depend on its neighbours: tokens are cut into chunks that fit the memory."""
    for name, pair in ordinary_pairs().items():
        student, teacher = log_probs(pair)
        together = divergence.per_token(student, teacher)
        alone = torch.cat([divergence.per_token(s[None], t[None]) for s, t in zip(student, teacher, strict=True)])
        demand(torch.allclose(together, alone, atol=1e-5), f"{name}: {together.tolist()} together, {alone.tolist()} alone")


@check("divergence")
def check_sampled_estimate(divergence: Divergence, bench: Bench) -> None:
    """With the capability `sampled`, `sampled` gives `[tokens]` finite values, with gradient to the student alone."""
    if "sampled" not in divergence.provides:
        raise does_not_apply("it does not provide 'sampled'")
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        student, teacher = (logp[:, 0].detach().clamp_min(-1e4).requires_grad_() for logp in log_probs(pair))
        value = divergence.sampled(student, teacher)
        demand(value.shape == student.shape, f"{name}: shape {tuple(value.shape)} for {tuple(student.shape)}")
        demand(torch.isfinite(value).all(), f"{name}: {value.tolist()}")
        demand(value.requires_grad, f"{name}: the estimate carries no gradient")
        to_student, to_teacher = torch.autograd.grad(value.sum(), (student, teacher), allow_unused=True)
        demand(to_student is not None and torch.isfinite(to_student).all(), f"{name}: no finite gradient to the student")
        demand(to_teacher is None or not to_teacher.any(), f"{name}: a gradient reaches the teacher; detach its log-probs")
