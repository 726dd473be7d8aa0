"""The laws of divergences: finite nats per token that fall as the student approaches the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Divergence
from rosd_kit.testing.check import Bench, check, does_not_apply, require
from rosd_kit.testing.numbers import Pair, extreme_pairs, log_probs, ordinary_pairs

_EXACT = 1e-4


def _measured(divergence: Divergence, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the value per token and its gradient with respect to the student's logits."""
    student = pair[0].clone().requires_grad_()
    value = divergence.per_token(student.log_softmax(-1), pair[1].log_softmax(-1))
    if not value.requires_grad:
        return value.detach(), torch.zeros_like(student)
    (gradient,) = torch.autograd.grad(value.sum(), student, allow_unused=True)
    return value.detach(), torch.zeros_like(student) if gradient is None else gradient


@check("divergence")
def check_one_number_per_token(divergence: Divergence, bench: Bench) -> None:
    """`per_token` takes logprobs `[tokens, k]` and returns `[tokens]` floating point numbers."""
    for name, pair in ordinary_pairs().items():
        value = divergence.per_token(*log_probs(pair))
        require(value.shape == pair[0].shape[:1], f"{name}: shape {tuple(value.shape)} for {tuple(pair[0].shape)} logprobs")
        require(value.is_floating_point(), f"{name}: values of type {value.dtype}")


@check("divergence")
def check_finite(divergence: Divergence, bench: Bench) -> None:
    """Values and gradients are finite, even for logits of 10000 and probabilities of 0, where 0 log 0 is 0."""
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        value, gradient = _measured(divergence, pair)
        require(torch.isfinite(value).all(), f"{name}: the values are {value.tolist()}")
        require(torch.isfinite(gradient).all(), f"{name}: the gradient with respect to the student's logits is not finite")


@check("divergence")
def check_zero_at_equality(divergence: Divergence, bench: Bench) -> None:
    """For equal distributions the value and its gradient are 0; waived by `may_differ_at_equality = True`."""
    if divergence.may_differ_at_equality:
        raise does_not_apply("its class sets may_differ_at_equality = True")
    for name, (student, _) in ordinary_pairs().items():
        value, gradient = _measured(divergence, (student, student.clone()))
        require(value.abs().max() < _EXACT, f"{name}: the values are {value.tolist()} for equal distributions")
        require(gradient.abs().max() < _EXACT, f"{name}: a gradient of {gradient.abs().max():g} for equal distributions")


@check("divergence")
def check_not_negative(divergence: Divergence, bench: Bench) -> None:
    """The value is never negative; waived by `may_be_negative = True`."""
    if divergence.may_be_negative:
        raise does_not_apply("its class sets may_be_negative = True")
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        value = divergence.per_token(*log_probs(pair))
        require((value >= -1e-5).all(), f"{name}: the values are {value.tolist()}")


@check("divergence")
def check_gradient_to_the_student_alone(divergence: Divergence, bench: Bench) -> None:
    """If student and teacher differ, the gradient reaches the student's logprobs, and never the teacher's."""
    for name, pair in ordinary_pairs().items():
        student, teacher = (logits.clone().requires_grad_() for logits in pair)
        value = divergence.per_token(student.log_softmax(-1), teacher.log_softmax(-1))
        require(value.requires_grad, f"{name}: the result carries no gradient")
        to_student, to_teacher = torch.autograd.grad(value.sum(), (student, teacher), allow_unused=True)
        require(to_student is not None and to_student.abs().max() > 0, f"{name}: no gradient reaches the student")
        require(to_teacher is None or not to_teacher.any(), f"{name}: a gradient reaches the teacher; detach its logprobs")


@check("divergence")
def check_gradient_descent_lowers_the_value(divergence: Divergence, bench: Bench) -> None:
    """A small step of the student's logits against the gradient does not raise the value."""
    for name, (student, teacher) in ordinary_pairs().items():
        pair = (student.double(), teacher.double())
        before, gradient = _measured(divergence, pair)
        after, _ = _measured(divergence, (pair[0] - 1e-3 * gradient, pair[1]))
        require(after.sum() <= before.sum() + 1e-9, f"{name}: it rises from {before.sum():.6g} to {after.sum():.6g}")


@check("divergence")
def check_tokens_are_independent(divergence: Divergence, bench: Bench) -> None:
    """A token's value does not depend on its neighbours: the engine splits tokens into chunks that fit in memory."""
    for name, pair in ordinary_pairs().items():
        student, teacher = log_probs(pair)
        together = divergence.per_token(student, teacher)
        alone = torch.cat([divergence.per_token(s[None], t[None]) for s, t in zip(student, teacher, strict=True)])
        require(torch.allclose(together, alone, atol=1e-5), f"{name}: {together.tolist()} together, {alone.tolist()} alone")


@check("divergence")
def check_sampled_estimate(divergence: Divergence, bench: Bench) -> None:
    """With the capability `sampled`, `sampled` returns `[tokens]` finite values with gradient to the student only."""
    if "sampled" not in divergence.provides:
        raise does_not_apply("it does not provide 'sampled'")
    for name, pair in {**ordinary_pairs(), **extreme_pairs()}.items():
        student, teacher = (logp[:, 0].detach().clamp_min(-1e4).requires_grad_() for logp in log_probs(pair))
        value = divergence.sampled(student, teacher)
        require(value.shape == student.shape, f"{name}: shape {tuple(value.shape)} for {tuple(student.shape)}")
        require(torch.isfinite(value).all(), f"{name}: the values are {value.tolist()}")
        require(value.requires_grad, f"{name}: the estimate carries no gradient")
        to_student, to_teacher = torch.autograd.grad(value.sum(), (student, teacher), allow_unused=True)
        require(to_student is not None and torch.isfinite(to_student).all(), f"{name}: no finite gradient to the student")
        require(to_teacher is None or not to_teacher.any(), f"{name}: a gradient reaches the teacher; detach its logprobs")
