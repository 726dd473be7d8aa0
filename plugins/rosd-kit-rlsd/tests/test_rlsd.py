"""The objective `rlsd`: the laws of its slot, its advantages, and a short run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rosd_kit_rlsd.objective import RLSD

import rosd_kit as rk
from rosd_kit.testing import fake_sample, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


def rlsd(**options: object) -> RLSD:
    return RLSD(RLSD.Config(**options))


def two_words(*probabilities: float) -> torch.Tensor:
    """Return logprobs `[tokens, 2]` over two words; the first word has these probabilities."""
    first = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1).log()


def scored(advantage: list[float], student: list[float], *teachers: list[float], ratio: float = 1.0) -> rk.TokenScores:
    """Return scores of tokens that are all the first word; a teacher probability of 0 means no such view."""
    logp = two_words(*student).requires_grad_()
    current = logp[:, 0]
    marks = torch.tensor([[float(p > 0) for p in teacher] for teacher in teachers], dtype=torch.float64)
    return rk.TokenScores(
        student=logp,
        teacher=None,
        sampled=torch.zeros(len(student), dtype=torch.long),
        behaviour=current.detach() - math.log(ratio),
        current=current,
        advantage=torch.tensor(advantage, dtype=torch.float64),
        views=tuple(two_words(*(p or 0.5 for p in teacher)) for teacher in teachers),
        marks=marks.reshape(len(teachers), len(student)),
    )


@parametrize_with_checks([RLSD(), rlsd(mix=1.0, clip_weight=0.5, normalise="sequence")])
def test_conformance(component, check):
    check(component)


def test_weights_are_clipped_ratios():
    """0.55 / 0.5 = 1.1 is within the clip, 0.9 / 0.5 beyond it; a negative advantage inverts the ratio."""
    scores = scored([2.0, 2.0, -2.0, -2.0], [0.5] * 4, [0.55, 0.9, 0.55, 0.1])
    weights = rlsd(mix=0.5, clip_weight=0.2).weights(scores)
    assert weights.tolist() == pytest.approx([1.05, 1.1, 0.5 + 0.5 / 1.1, 1.1])


def test_the_loss_is_the_policy_gradient_with_weighted_advantages():
    scores = scored([2.0, -2.0], [0.5, 0.5], [0.9, 0.9])
    assert rlsd(mix=1.0).per_token(scores).tolist() == pytest.approx([-2.4, 1.6])
    off_policy = scored([2.0, -2.0], [0.5, 0.5], [0.9, 0.9], ratio=1.5)
    assert rlsd(mix=1.0).per_token(off_policy).tolist() == pytest.approx([-2.4 * 1.28, 1.6 * 1.5])


def test_the_gradient_does_not_flow_through_the_weights():
    scores = scored([2.0], [0.5], [0.9])
    rlsd(mix=1.0).per_token(scores).sum().backward()
    assert scores.student.grad.tolist() == [[pytest.approx(-2.4), 0.0]]


@pytest.mark.parametrize("options", [{"mix": 0.0}, {"clip_weight": 0.0}])
def test_without_mix_or_clip_it_is_grpo(options):
    scores = scored([2.0, -1.0], [0.5, 0.3], [0.9, 0.1], ratio=1.1)
    assert torch.equal(rlsd(**options).per_token(scores), rk.PolicyGradient().per_token(scores))


def test_without_a_teacher_view_the_advantage_is_plain():
    scores = scored([2.0, -1.0], [0.5, 0.3])
    assert torch.equal(rlsd().per_token(scores), rk.PolicyGradient().per_token(scores))
    mixed = scored([2.0, 2.0], [0.5, 0.5], [0.55, 0.0])
    assert rlsd().weights(mixed).tolist() == pytest.approx([1.05, 1.0])


def test_several_views_count_as_their_mean_logprob():
    """The token gets the geometric mean of the two probabilities."""
    scores = scored([1.0], [0.5], [0.45], [0.6])
    assert rlsd(mix=1.0).weights(scores).tolist() == pytest.approx([math.sqrt(0.45 * 0.6) / 0.5])


def test_a_sample_without_a_teacher_view_is_still_reinforced():
    assert list(rlsd().token_weights(fake_sample(length=3, teacher_views=0))) == [1.0] * 3


@given(st.floats(-3, 3), st.floats(0.001, 0.999), st.floats(0.001, 0.999), st.floats(0, 1), st.floats(0, 0.99))
def test_weights_are_positive_and_within_the_clip(advantage, student, teacher, mix, clip):
    weight = float(rlsd(mix=mix, clip_weight=clip).weights(scored([advantage], [student], [teacher]))[0])
    assert 1 - clip - 1e-9 <= weight <= 1 + clip + 1e-9
    assert weight > 0


def test_a_short_run_reinforces_every_token_of_mixed_groups(short_run):
    run = short_run(RECIPE)
    assert run.total("gate/mixed") > 0 and all(record["teacher_prompts"] for record in run.samples)
    assert run.total("train/weighted_tokens") == sum(len(record["token_ids"]) for record in run.samples)
    assert run.total("train/loss/rlsd") != 0


def test_each_step_of_a_resumed_run_has_its_own_mix(parted_run, monkeypatch):
    """The recipe's curve, once as it is and once in 4 steps so that it ends; the weights of the loss follow it."""
    seen: list[float] = []
    weights = RLSD.weights

    def noted(self: RLSD, scores: rk.TokenScores) -> torch.Tensor:
        found = weights(self, scores)
        seen.append(self.config.mix)
        assert bool(((found - 1).abs() <= self.config.mix * self.config.clip_weight + 1e-6).all())
        return found

    monkeypatch.setattr(RLSD, "weights", noted)
    metrics = parted_run(RECIPE, "gate=all", stop=2, steps=4)
    assert [line["schedule/objective.mix"] for line in metrics] == pytest.approx([0.5, 0.49, 0.48, 0.47])
    assert list(dict.fromkeys(seen)) == pytest.approx([0.5, 0.49, 0.48, 0.47])


def test_a_resumed_run_ends_the_mix_at_plain_grpo(parted_run, monkeypatch):
    seen: list[tuple[float, bool]] = []
    weights = RLSD.weights

    def noted(self: RLSD, scores: rk.TokenScores) -> torch.Tensor:
        found = weights(self, scores)
        seen.append((self.config.mix, bool((found == 1).all())))
        return found

    monkeypatch.setattr(RLSD, "weights", noted)
    metrics = parted_run(RECIPE, "gate=all", "objective.mix.steps=4", stop=3, steps=6)
    curve = [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert [line["schedule/objective.mix"] for line in metrics] == pytest.approx(curve)
    assert list(dict.fromkeys(mix for mix, _ in seen)) == pytest.approx(curve[:5])
    assert all(plain for mix, plain in seen if mix == 0) and not all(plain for _, plain in seen)


def test_the_mix_of_the_recipe_falls_to_0_over_50_steps():
    options = RLSD.Config(mix={"from": 0.5, "to": 0.0, "steps": 50, "shape": "linear"})
    values = [options.at_step(step).mix for step in (0, 10, 25, 50, 80)]
    assert values == pytest.approx([0.5, 0.4, 0.25, 0.0, 0.0])
