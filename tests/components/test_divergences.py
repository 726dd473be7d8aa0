"""Divergences: hand-computed values, closed-form gradients and mathematical laws."""

from __future__ import annotations

import math

import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rosd_kit.components.divergences import COMPONENTS, JSD, ForwardKL, ReverseKL
from rosd_kit.contracts import Divergence

LAWS = settings(max_examples=60)
SEEDS = st.integers(0, 2**31)
BETAS = st.floats(0.02, 0.98)
SCALES = st.sampled_from([0.1, 1.0, 5.0])


def jsd(beta: float = 0.5) -> JSD:
    return JSD(JSD.Config(beta=beta))


def logits(seed: int, scale: float = 1.0, rows: int = 3, size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, rows, size, generator=generator, dtype=torch.float64) * scale
    return both[0].requires_grad_(), both[1]


def gradient(divergence: Divergence, student: Tensor, teacher: Tensor) -> Tensor:
    loss = divergence.per_token(student.log_softmax(-1), teacher.log_softmax(-1)).sum()
    return torch.autograd.grad(loss, student)[0]


def value(divergence: Divergence, student: Tensor, teacher: Tensor) -> Tensor:
    return divergence.per_token(student.detach().log_softmax(-1), teacher.log_softmax(-1))


def test_names_and_capabilities_of_the_built_in_divergences() -> None:
    assert {c.name: c.provides for c in COMPONENTS} == {
        "forward_kl": frozenset(),
        "jsd": frozenset(),
        "reverse_kl": frozenset({"sampled"}),
    }


def test_divergences_equal_hand_computed_values() -> None:
    s, t = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    forward = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    reverse = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    middle = 0.5 * (0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625))
    middle += 0.5 * (0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625))
    assert ForwardKL().per_token(s, t).item() == pytest.approx(forward, abs=1e-7)
    assert ReverseKL().per_token(s, t).item() == pytest.approx(reverse, abs=1e-7)
    assert jsd().per_token(s, t).item() == pytest.approx(middle, abs=1e-7)


@pytest.mark.parametrize("divergence", [ForwardKL(), ReverseKL(), jsd(0.5), jsd(0.1)])
def test_gradients_pass_gradcheck(divergence: Divergence) -> None:
    student, teacher = logits(0, 2.0)
    target = teacher.log_softmax(-1)
    assert torch.autograd.gradcheck(lambda x: divergence.per_token(x.log_softmax(-1), target), (student,))


@LAWS
@given(seed=SEEDS, scale=SCALES, beta=BETAS)
def test_gradients_equal_their_closed_form(seed: int, scale: float, beta: float) -> None:
    student, teacher = logits(seed, scale)
    log_s, log_t = student.detach().log_softmax(-1), teacher.log_softmax(-1)
    s, t = log_s.exp(), log_t.exp()
    log_m = (beta * t + (1 - beta) * s).log()
    reverse = (s * (log_s - log_t)).sum(-1, keepdim=True)
    to_middle = (s * (log_s - log_m)).sum(-1, keepdim=True)
    for divergence, expected in [
        (ForwardKL(), s - t),
        (ReverseKL(), s * (log_s - log_t - reverse)),
        (jsd(beta), (1 - beta) * s * (log_s - log_m - to_middle)),
    ]:
        torch.testing.assert_close(gradient(divergence, student, teacher), expected, atol=1e-12, rtol=1e-9)


@LAWS
@given(seed=SEEDS, scale=SCALES, beta=BETAS)
def test_jsd_is_bounded_and_mirrors_when_sides_are_swapped(seed: int, scale: float, beta: float) -> None:
    student, teacher = logits(seed, scale)
    divergence = value(jsd(beta), student, teacher)
    entropy = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert (divergence >= -1e-15).all() and (divergence <= entropy + 1e-15).all()
    mirrored = value(jsd(1 - beta), teacher, student.detach())
    torch.testing.assert_close(divergence, mirrored, atol=1e-13, rtol=1e-10)


@LAWS
@given(seed=SEEDS)
def test_jsd_tends_to_the_two_kls(seed: int) -> None:
    student, teacher = logits(seed)
    small = 1e-6
    forward, reverse = value(ForwardKL(), student, teacher), value(ReverseKL(), student, teacher)
    torch.testing.assert_close(value(jsd(small), student, teacher) / small, forward, atol=1e-8, rtol=1e-3)
    torch.testing.assert_close(value(jsd(1 - small), student, teacher) / small, reverse, atol=1e-8, rtol=1e-3)


@LAWS
@given(seed=SEEDS, beta=BETAS)
def test_jsd_near_equality_is_a_scaled_kl(seed: int, beta: float) -> None:
    student, direction = logits(seed)
    teacher = student.detach() + 1e-4 * direction
    scale = beta * (1 - beta)
    forward = gradient(ForwardKL(), student, teacher)
    torch.testing.assert_close(gradient(jsd(beta), student, teacher) / scale, forward, atol=1e-7, rtol=1e-2)


@LAWS
@given(seed=SEEDS, scale=SCALES)
def test_the_sampled_estimate_is_exact_in_expectation(seed: int, scale: float) -> None:
    student, teacher = logits(seed, scale, rows=1)
    log_s, log_t = student.log_softmax(-1)[0], teacher.log_softmax(-1)[0]
    estimate = ReverseKL().sampled(log_s, log_t)
    probabilities = log_s.detach().exp()
    torch.testing.assert_close((probabilities * estimate.detach()).sum()[None], value(ReverseKL(), student, teacher))
    expected = gradient(ReverseKL(), student, teacher)
    actual = torch.autograd.grad((probabilities * estimate).sum(), student)[0]
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-9)


def test_only_reverse_kl_has_a_sampled_estimate() -> None:
    for divergence in (ForwardKL(), jsd()):
        with pytest.raises(AssertionError, match=divergence.name):
            divergence.sampled(torch.zeros(1), torch.zeros(1))


@LAWS
@given(seed=SEEDS, scale=SCALES, beta=BETAS)
def test_equal_distributions_cost_nothing(seed: int, scale: float, beta: float) -> None:
    student, _ = logits(seed, scale)
    for divergence in (ForwardKL(), ReverseKL(), jsd(beta)):
        torch.testing.assert_close(value(divergence, student, student.detach()), torch.zeros(3, dtype=torch.float64))
        at_equality = gradient(divergence, student, student.detach())
        torch.testing.assert_close(at_equality, torch.zeros_like(at_equality), atol=1e-14, rtol=0)


def test_a_lerp_of_logits_is_the_geometric_mixture() -> None:
    a, b = (x.detach() for x in logits(3, 2.0))
    mixture = a.softmax(-1) ** 0.3 * b.softmax(-1) ** 0.7
    expected = mixture / mixture.sum(-1, keepdim=True)
    torch.testing.assert_close((0.3 * a + 0.7 * b).softmax(-1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("divergence", [ForwardKL(), ReverseKL(), jsd()])
def test_divergences_are_finite_at_zero_probability(divergence: Divergence, dtype: torch.dtype) -> None:
    log_zero = -float("inf")
    student = torch.tensor([[0.0, log_zero, log_zero], [0.0, 1e4, -1e4], [log_zero, 0.0, 0.0]], dtype=dtype)
    teacher = torch.tensor([[0.0, log_zero, 0.0], [1e4, 0.0, 0.0], [log_zero, 1.0, 0.0]], dtype=dtype)
    student.requires_grad_()
    loss = divergence.per_token(student.log_softmax(-1), teacher.log_softmax(-1))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()


def test_disjoint_distributions_reach_the_bounds() -> None:
    s, t = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert jsd().per_token(s, t).item() == pytest.approx(math.log(2))
    assert ForwardKL().per_token(s, t).item() >= 1e8
    assert ReverseKL().per_token(s, t).item() >= 1e8


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.5])
def test_beta_outside_its_range_is_refused(beta: float) -> None:
    with pytest.raises(pydantic.ValidationError, match="beta"):
        JSD.Config(beta=beta)


@pytest.mark.parametrize("cls", COMPONENTS)
def test_the_clip_limits_single_entries_and_stops_their_gradient(cls: type[Divergence]) -> None:
    student, teacher = logits(3, scale=3.0)
    whole, log_s, log_t = cls(), student.log_softmax(-1), teacher.log_softmax(-1)
    entries = whole.entries(log_s, log_t)
    clip = float(entries.detach().max()) / 2
    clipped = cls(cls.Config(entry_clip=clip))
    expected = torch.where(entries > clip, torch.full_like(entries, clip), entries).sum(-1)
    torch.testing.assert_close(clipped.per_token(log_s, log_t), expected)
    (clipped_gradient,) = torch.autograd.grad(clipped.per_token(log_s, log_t).sum(), log_s, retain_graph=True)
    (free_gradient,) = torch.autograd.grad(entries.sum(), log_s)
    cut = entries > clip
    assert cut.any() and not cut.all()
    torch.testing.assert_close(clipped_gradient, torch.where(cut, torch.zeros_like(free_gradient), free_gradient))
    assert (clipped.per_token(log_s, log_t) <= whole.per_token(log_s, log_t)).all()


def test_a_clipped_forward_kl_may_be_negative() -> None:
    student, teacher = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.1, 0.9]]).log()
    assert ForwardKL().per_token(student, teacher).item() > 0
    assert ForwardKL(ForwardKL.Config(entry_clip=0.05)).per_token(student, teacher).item() < 0
