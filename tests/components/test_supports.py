"""Supports: coarse-graining laws, exact tails, and the choice of entries."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rosd_kit.components.divergences import JSD, ForwardKL, ReverseKL
from rosd_kit.components.supports import COMPONENTS, Full, Sampled, StudentTopK, TeacherTopK
from rosd_kit.components.supports.buckets import top_indices
from rosd_kit.contracts import Divergence, Support

LAWS = settings(max_examples=60)
SEEDS = st.integers(0, 2**31)
DIVERGENCES = (ForwardKL(), ReverseKL(), JSD())
SAMPLED = torch.tensor([1, 0, 2])


def logps(seed: int, size: int = 9, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = (2 * torch.randn(2, 3, size, generator=generator, dtype=dtype)).log_softmax(-1)
    return both[0], both[1]


def student_topk(k: int, tail: bool = True) -> StudentTopK:
    return StudentTopK(StudentTopK.Config(k=k, tail=tail))


def teacher_topk(k: int, tail: bool = True) -> TeacherTopK:
    return TeacherTopK(TeacherTopK.Config(k=k, tail=tail))


def test_names_defaults_and_needs_of_the_built_in_supports() -> None:
    assert [c.name for c in COMPONENTS] == ["full", "sampled", "student_topk", "teacher_topk"]
    assert Sampled.needs == {"sampled"}
    assert student_topk(5).Config().model_dump() == {"k": 100, "tail": True}


def test_full_changes_nothing() -> None:
    student, teacher = logps(0)
    projection = Full().project(student, teacher, SAMPLED)
    assert projection.student is student and projection.teacher is teacher and not projection.sampled


def test_sampled_picks_the_sampled_tokens() -> None:
    student, teacher = logps(0)
    projection = Sampled().project(student, teacher, SAMPLED)
    assert projection.sampled
    assert projection.student[:, 0].tolist() == [student[0, 1], student[1, 0], student[2, 2]]
    assert projection.teacher[:, 0].tolist() == [teacher[0, 1], teacher[1, 0], teacher[2, 2]]


def test_topk_equals_hand_computed_values() -> None:
    student, teacher = torch.tensor([[0.1, 0.6, 0.3]]).log(), torch.tensor([[0.5, 0.2, 0.3]]).log()
    for support, expected_s, expected_t in [
        (student_topk(1), [0.6, 0.4], [0.2, 0.8]),
        (teacher_topk(1), [0.1, 0.9], [0.5, 0.5]),
        (student_topk(2, tail=False), [0.3 / 0.9, 0.6 / 0.9], [0.3 / 0.5, 0.2 / 0.5]),
    ]:
        projection = support.project(student, teacher, torch.tensor([0]))
        pairs = sorted(zip(projection.student[0].exp().tolist(), projection.teacher[0].exp().tolist(), strict=True))
        assert pairs == [pytest.approx(pair) for pair in sorted(zip(expected_s, expected_t, strict=True))]


@LAWS
@given(seed=SEEDS, make_support=st.sampled_from([student_topk, teacher_topk]))
def test_the_tail_makes_a_monotone_coarse_graining(seed: int, make_support: Callable[[int], Support]) -> None:
    student, teacher = logps(seed)
    for divergence in DIVERGENCES:
        exact = divergence.per_token(student, teacher)
        before = torch.zeros(3, dtype=torch.float64)
        for k in range(1, 11):
            projection = make_support(k).project(student, teacher, SAMPLED)
            torch.testing.assert_close(projection.student.exp().sum(-1), torch.ones(3, dtype=torch.float64))
            coarse = divergence.per_token(projection.student, projection.teacher)
            assert (coarse >= before - 1e-12).all() and (coarse <= exact + 1e-12).all()
            before = coarse
        torch.testing.assert_close(before, exact, atol=0, rtol=0)


def test_renormalised_entries_may_exceed_the_exact_divergence() -> None:
    exceeded = 0
    for seed in range(30):
        student, teacher = logps(seed)
        projection = student_topk(3, tail=False).project(student, teacher, SAMPLED)
        torch.testing.assert_close(projection.teacher.exp().sum(-1), torch.ones(3, dtype=torch.float64))
        above = ForwardKL().per_token(projection.student, projection.teacher) > ForwardKL().per_token(student, teacher)
        exceeded += int(above.sum())
    assert exceeded > 0


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradients_through_the_support_pass_gradcheck(divergence: ForwardKL, tail: bool) -> None:
    student, teacher = logps(5)

    def loss(x: Tensor) -> Tensor:
        projection = teacher_topk(3, tail).project(x.log_softmax(-1), teacher, SAMPLED)
        return divergence.per_token(projection.student, projection.teacher)

    assert torch.autograd.gradcheck(loss, (student.clone().requires_grad_(),))


def test_a_tiny_tail_keeps_its_digits_in_float32() -> None:
    """A tail of about 1e-9 is below float32's resolution of 1 - x, but not of the sum over the other entries."""
    scores = torch.tensor([[20.0, 19.0, -2.0, -3.0, -2.5]])
    target = torch.tensor([[1.0, 0.0, 3.0, 0.5, 2.0]])
    tail = math.log(sum(map(math.exp, (-2, -3, -2.5)))) - math.log(math.exp(20) + math.exp(19))
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        x = scores.to(dtype).requires_grad_()
        projection = student_topk(2).project(x.log_softmax(-1), target.to(dtype).log_softmax(-1), torch.tensor([0]))
        loss = ForwardKL().per_token(projection.student, projection.teacher)
        gradients[dtype] = torch.autograd.grad(loss.sum(), x)[0].double()
        assert projection.student[0, -1].item() == pytest.approx(tail, abs=1e-5)
    torch.testing.assert_close(gradients[torch.float32], gradients[torch.float64], atol=1e-6, rtol=1e-5)


def test_an_empty_tail_is_finite() -> None:
    log_zero = -float("inf")
    student = torch.tensor([[0.0, 1.0, log_zero, log_zero]], requires_grad=True)
    teacher = torch.tensor([[0.5, 0.5, log_zero, log_zero]])
    for divergence in DIVERGENCES:
        projection = student_topk(2).project(student.log_softmax(-1), teacher.log_softmax(-1), torch.tensor([0]))
        loss = divergence.per_token(projection.student, projection.teacher)
        gradient = torch.autograd.grad(loss.sum(), student)[0]
        assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()
        assert 0 < loss.item() < 1


@pytest.mark.parametrize(
    "support", [student_topk(2), student_topk(2, tail=False), teacher_topk(3), Full()], ids=lambda s: s.name
)
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.name)
def test_gradients_are_those_of_finite_differences(support: Support, divergence: Divergence) -> None:
    student, teacher = logps(5)

    def loss(logits: Tensor) -> Tensor:
        projection = support.project(logits.log_softmax(-1), teacher, SAMPLED)
        return divergence.per_token(projection.student, projection.teacher)

    assert torch.autograd.gradcheck(loss, (student.clone().requires_grad_(),))


@LAWS
@given(seed=SEEDS, k=st.integers(1, 4), size=st.sampled_from([256, 1000, 1024, 1031]))
def test_the_two_step_search_finds_the_largest(seed: int, k: int, size: int) -> None:
    logp, _ = logps(seed, size=size)
    logp = logp.round(decimals=1) if seed % 2 else logp
    indices, expected = top_indices(logp, k), logp.topk(k, dim=-1).values
    assert [len(set(row)) for row in indices.tolist()] == [k] * 3
    assert torch.equal(logp.gather(-1, indices).sort(descending=True).values, expected)


def test_a_tail_without_mass_is_finite_and_has_no_gradient() -> None:
    student = torch.tensor([[0.0, -1.0, -math.inf, -math.inf]], dtype=torch.float32).requires_grad_()
    projection = student_topk(2).project(student.log_softmax(-1), torch.tensor([[0.5, 0.5, 0.0, 0.0]]).log(), SAMPLED[:1])
    assert torch.isfinite(projection.student).all() and projection.student[0, -1] < -1e8
    for divergence in DIVERGENCES:
        loss = divergence.per_token(projection.student, projection.teacher).sum()
        (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
        assert torch.isfinite(loss) and torch.isfinite(gradient[:, :2]).all() and (gradient[:, 2:] == 0).all()
