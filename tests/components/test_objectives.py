"""Objectives: token weights by route, advantages, and hand-computed losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rosd_kit.components.corrections import NoCorrection, Truncated
from rosd_kit.components.divergences import JSD, ForwardKL, ReverseKL
from rosd_kit.components.objectives import COMPONENTS, Distill, PolicyGradient, SupervisedFineTuning
from rosd_kit.components.supports import Full, Sampled, StudentTopK
from rosd_kit.contracts import LossParts, TokenScores
from rosd_kit.types import DistillSample, TeacherView


def sample(**changes: Any) -> DistillSample:
    values: dict[str, Any] = {
        "problem_id": "p",
        "prompt_ids": (1, 2),
        "response_ids": (3, 4, 5, 6),
        "behaviour_logprobs": (-1.0, -1.0, -1.0, -1.0),
        "token_weights": (0.0, 0.0, 1.0, 0.5),
        "teacher_views": (TeacherView(prompt_ids=(1,), source="reflection"),),
        "reward": 1.0,
        "success": True,
        "group_rewards": (1.0, 0.0, 0.0, 1.0),
    }
    return DistillSample(**values | changes)


def scores(**changes: Any) -> TokenScores:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).log_softmax(-1)
    sampled = torch.tensor([0, 3, 4])
    current = student.gather(1, sampled[:, None]).squeeze(1)
    values: dict[str, Any] = {
        "student": student,
        "teacher": teacher,
        "sampled": sampled,
        "behaviour": current - torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64),
        "current": current,
        "advantage": torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64),
    }
    return TokenScores(**values | changes)


def test_names_and_capabilities_of_the_built_in_objectives() -> None:
    capabilities = {c.name: (set(c.needs), c.needs_teacher) for c in COMPONENTS}
    assert capabilities == {
        "distill": ({"teacher_prompt"}, True),
        "policy_gradient": ({"group"}, False),
        "sft": (set(), False),
    }


def test_distill_multiplies_the_weights_of_gate_and_localizer() -> None:
    term = Distill()
    assert term.token_weights(sample(weight=2.0)) == [0.0, 0.0, 2.0, 1.0]
    assert term.token_weights(sample(route="distill")) == [0.0, 0.0, 1.0, 0.5]
    assert term.token_weights(sample(route="sft")) == [0.0] * 4
    assert term.token_weights(sample(teacher_views=())) == [0.0] * 4


def test_distill_is_correction_times_divergence_on_the_support() -> None:
    token_scores = scores()
    parts = LossParts(support=StudentTopK(StudentTopK.Config(k=2)), divergence=JSD(), correction=Truncated())
    projection = parts.support.project(token_scores.student, token_scores.teacher, token_scores.sampled)
    expected = JSD().per_token(projection.student, projection.teacher) * torch.tensor([1.0, 2.0, math.exp(-0.5)])
    torch.testing.assert_close(Distill(parts=parts).per_token(token_scores), expected)


def test_distill_on_the_sampled_support_uses_the_sampled_estimate() -> None:
    token_scores = scores()
    parts = LossParts(support=Sampled(), divergence=ReverseKL(), correction=NoCorrection())
    teacher = token_scores.teacher.gather(1, token_scores.sampled[:, None]).squeeze(1)
    torch.testing.assert_close(Distill(parts=parts).per_token(token_scores), token_scores.sampled_logprobs() - teacher)
    wrong = LossParts(support=Sampled(), divergence=ForwardKL(), correction=NoCorrection())
    with pytest.raises(AssertionError, match="forward_kl"):
        Distill(parts=wrong).per_token(token_scores)


def test_the_token_clip_bounds_a_tokens_loss_before_its_importance_weight() -> None:
    token_scores, parts = scores(), LossParts(support=Full(), divergence=JSD(), correction=Truncated())
    costs = JSD().per_token(token_scores.student, token_scores.teacher)
    clip = float(costs.mean())
    losses = Distill(Distill.Config(token_clip=clip), parts).per_token(token_scores)
    assert (costs > clip).any() and (costs < clip).any()
    torch.testing.assert_close(losses, costs.clamp_max(clip) * torch.tensor([1.0, 2.0, math.exp(-0.5)]))


def test_distill_needs_its_loss_parts_and_a_teacher() -> None:
    with pytest.raises(AssertionError, match="parts"):
        Distill().per_token(scores())
    parts = LossParts(support=Full(), divergence=ForwardKL(), correction=NoCorrection())
    with pytest.raises(AssertionError, match="teacher"):
        Distill(parts=parts).per_token(scores(teacher=None))


def test_policy_gradient_weights_by_token_or_by_sequence() -> None:
    by_token, by_sequence = PolicyGradient(), PolicyGradient(PolicyGradient.Config(normalise="sequence"))
    assert by_token.token_weights(sample(weight=3.0)) == [3.0] * 4
    assert by_sequence.token_weights(sample(weight=3.0)) == [0.75] * 4
    assert by_token.token_weights(sample(route="distill")) == [0.0] * 4
    assert by_sequence.token_weights(sample(response_ids=(), behaviour_logprobs=(), token_weights=())) == []


def test_policy_gradient_advantage_equals_hand_computed_values() -> None:
    standard, plain = PolicyGradient(), PolicyGradient(PolicyGradient.Config(advantage="mean"))
    assert plain.advantage(sample()) == 0.5
    assert standard.advantage(sample()) == pytest.approx(0.5 / math.sqrt(1 / 3), rel=1e-5)
    assert standard.advantage(sample(group_rewards=(1.0, 1.0))) == 0.0
    assert standard.advantage(sample(group_rewards=(1.0,))) == 0.0


def test_policy_gradient_clips_the_ratio_only_where_that_limits_the_gain() -> None:
    current = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    ratios = torch.tensor([1.1, 1.5, 1.5, 0.5, 0.5], dtype=torch.float64)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    logp = torch.zeros(5, 2, dtype=torch.float64)
    token_scores = TokenScores(logp, None, torch.zeros(5, dtype=torch.long), -ratios.log(), current, advantage)
    loss = PolicyGradient().per_token(token_scores)
    torch.testing.assert_close(loss.tolist(), [-1.1, -1.28, 1.5, 0.8, -0.5])
    gradient = torch.autograd.grad(loss.sum(), current)[0]
    torch.testing.assert_close(gradient.tolist(), [-1.1, 0.0, 1.5, 0.0, -0.5])


def test_policy_gradient_is_finite_for_an_extreme_ratio() -> None:
    token_scores = scores(behaviour=torch.full((3,), -1e4, dtype=torch.float64))
    assert torch.isfinite(PolicyGradient().per_token(token_scores)).all()


def test_sft_imitates_successes_or_all() -> None:
    successes, everything = SupervisedFineTuning(), SupervisedFineTuning(SupervisedFineTuning.Config(imitate="all"))
    assert successes.token_weights(sample(weight=2.0)) == [2.0] * 4
    assert successes.token_weights(sample(success=False)) == [0.0] * 4
    assert everything.token_weights(sample(success=False)) == [1.0] * 4
    assert everything.token_weights(sample(route="distill")) == [0.0] * 4
    token_scores = scores()
    expected = [-token_scores.student[row, token].item() for row, token in enumerate((0, 3, 4))]
    torch.testing.assert_close(successes.per_token(token_scores).tolist(), expected)


def test_a_dual_clip_bounds_the_loss_of_negative_advantages_only() -> None:
    """max(-r A, -clip(r) A) is 50 at r = 50 and A = -1; with c = 3 it is 3, and a positive advantage keeps -1.28."""
    ratios = torch.tensor([50.0, 50.0, 2.0], dtype=torch.float64)
    current = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([-1.0, 1.0, -0.5], dtype=torch.float64)
    token_scores = TokenScores(torch.zeros(3, 2).double(), None, torch.zeros(3).long(), -ratios.log(), current, advantage)
    plain, dual = (PolicyGradient(PolicyGradient.Config(dual_clip=clip)).per_token(token_scores) for clip in (None, 3.0))
    torch.testing.assert_close(plain.tolist(), [50.0, -1.28, 1.0])
    torch.testing.assert_close(dual.tolist(), [3.0, -1.28, 1.0])
    assert torch.autograd.grad(dual.sum(), current)[0].tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_the_importance_cap_separates_the_engine_gap_from_the_policy_ratio() -> None:
    """pi / pi_old is 1.1 and 0.9; pi_old / pi_sampling is 1.5 and 10, capped at 2."""
    current = torch.tensor([1.1, 0.9], dtype=torch.float64).log().requires_grad_()
    old, advantage = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    behaviour = -torch.tensor([1.5, 10.0], dtype=torch.float64).log()
    logp = torch.zeros(2, 2).double()
    token_scores = TokenScores(logp, None, torch.zeros(2).long(), behaviour, current, advantage, old=old)
    term = PolicyGradient(PolicyGradient.Config(importance_cap=2.0))
    loss = term.per_token(token_scores)
    assert loss.tolist() == pytest.approx([-1.1 * 1.5, 0.9 * 2.0])
    assert torch.autograd.grad(loss.sum(), current)[0].tolist() == pytest.approx([-1.1 * 1.5, 0.9 * 2.0])
    first_update = TokenScores(logp, None, torch.zeros(2).long(), behaviour, old.clone().requires_grad_(), advantage)
    assert term.per_token(first_update).tolist() == pytest.approx([-1.5, 2.0])
    assert term.needs_old and not PolicyGradient().needs_old


def test_epsilon_is_added_to_the_standard_deviation() -> None:
    std = math.sqrt(0.25 * 4 / 3)
    for epsilon in (1e-6, 1e-4, 1.0):
        term = PolicyGradient(PolicyGradient.Config(epsilon=epsilon))
        assert term.advantage(sample()) == pytest.approx(0.5 / (std + epsilon), rel=1e-12)


def test_the_loss_temperature_divides_the_logits_of_both_sides() -> None:
    generator = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    token_scores = scores(student=student.log_softmax(-1), teacher=teacher.log_softmax(-1))
    parts = LossParts(support=Full(), divergence=ForwardKL(), correction=NoCorrection())
    p, q = (teacher / 1.1).softmax(-1), (student / 1.1).softmax(-1)
    expected = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(Distill(Distill.Config(temperature=1.1), parts).per_token(token_scores), expected)


def test_entries_of_the_forward_kl_are_clipped_as_in_opsd() -> None:
    token_scores = scores()
    p, q = token_scores.teacher.exp(), token_scores.student.exp()
    entries = p * (p / q).log()
    parts = LossParts(Full(), ForwardKL(ForwardKL.Config(entry_clip=0.05)), NoCorrection())
    assert (entries > 0.05).any()
    torch.testing.assert_close(Distill(parts=parts).per_token(token_scores), entries.clamp(max=0.05).sum(-1))


def test_distill_can_average_each_sequence_first() -> None:
    """Weights (1, 0.5) of 1.5 become 2/3 and 1/3, times the gate's weight: long responses count as much as short ones."""
    term = Distill(Distill.Config(normalise="sequence"))
    assert term.token_weights(sample()) == pytest.approx([0.0, 0.0, 2 / 3, 1 / 3])
    assert sum(term.token_weights(sample(weight=2.0))) == pytest.approx(2.0)
    assert term.token_weights(sample(token_weights=(0.0,) * 4)) == [0.0] * 4


def test_a_correction_by_sequence_uses_the_mean_gap_of_the_weighted_tokens() -> None:
    correction = Truncated(Truncated.Config(level="sequence"))
    term = Distill(parts=LossParts(support=Full(), divergence=JSD(), correction=correction))
    measured = sample(behaviour_logprobs=(-9.0, -1.0, -1.0, -1.5), old_logprobs=(0.0, 0.0, -0.6, -1.1))
    assert term.needs_old and term.advantage(measured) == pytest.approx(math.exp(0.4))
    assert term.advantage(sample(old_logprobs=(0.0, 0.0, 8.0, 8.0))) == 2.0
    weight = term.advantage(measured)
    token_scores = scores(advantage=torch.full((3,), weight, dtype=torch.float64))
    expected = weight * JSD().per_token(token_scores.student, token_scores.teacher)
    torch.testing.assert_close(term.per_token(token_scores), expected)
