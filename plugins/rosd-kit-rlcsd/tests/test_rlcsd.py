"""The demonstration `right_and_wrong` and the objective `rlcsd`: the laws of their slots, contrasts, and a short run."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rosd_kit_rlcsd.hints import RightAndWrong
from rosd_kit_rlcsd.objective import RLCSD

import rosd_kit as rk
from rosd_kit.testing import fake_group, fake_sample, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
MEMBERS = (("right a", True), ("wrong b", False), ("wrong c", False), ("right d", True), ("wrong e", False))


def rlcsd(**options: object) -> RLCSD:
    return RLCSD(RLCSD.Config(**options))


def two_words(*probabilities: float) -> torch.Tensor:
    """Return logprobs `[tokens, 2]` over two words; the first word has these probabilities."""
    first = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1).log()


def scored(advantage: list[float], *views: tuple[float, list[float]]) -> rk.TokenScores:
    """Return scores of tokens that are all the first word.

    Each view is a mark and one probability per token; 0 means that the token has no such view.
    """
    logp = two_words(*[0.5] * len(advantage)).requires_grad_()
    marks = torch.tensor([[mark * float(p > 0) for p in probabilities] for mark, probabilities in views], dtype=torch.float64)
    return rk.TokenScores(
        student=logp,
        teacher=None,
        sampled=torch.zeros(len(advantage), dtype=torch.long),
        behaviour=logp[:, 0].detach(),
        current=logp[:, 0],
        advantage=torch.tensor(advantage, dtype=torch.float64),
        views=tuple(two_words(*(p or 0.9 for p in probabilities)) for _, probabilities in views),
        marks=marks.reshape(len(views), len(advantage)),
    )


@parametrize_with_checks([RightAndWrong(), RLCSD(), rlcsd(strength=2.0, scale=1.0, threshold=0.0)])
def test_conformance(component, check):
    check(component)


def test_the_contrast_uses_the_mean_probability_of_the_wrong_hints():
    """log 0.8 - log mean(0.2, 0.4); with a single wrong hint, log 0.8 - log 0.4."""
    scores = scored([1.0, 1.0], (1, [0.8, 0.8]), (-1, [0.2, 0.4]), (-1, [0.4, 0.0]))
    assert rlcsd().contrast(scores).tolist() == pytest.approx([math.log(0.8 / 0.3), math.log(2.0)])


def test_one_kind_of_hint_gives_no_contrast():
    scores = scored([1.0, 1.0, 1.0], (1, [0.8, 0.0, 0.0]), (-1, [0.0, 0.2, 0.0]))
    assert rlcsd().contrast(scores).tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(rlcsd().per_token(scores), rk.PolicyGradient().per_token(scores))
    without_views = scored([1.0, -1.0])
    assert torch.equal(rlcsd().per_token(without_views), rk.PolicyGradient().per_token(without_views))


def test_the_shift_is_bounded_and_keeps_the_sign():
    """Shifts up to the threshold are left out, a sign change gives 0, and an advantage of 0 stays 0."""
    objective = rlcsd(strength=0.5, scale=1.0, threshold=0.1)
    advantage = torch.tensor([1.0, -1.0, -0.2, 0.2, 1.0, 0.0], dtype=torch.float64)
    contrast = torch.tensor([0.5, 0.5, 0.5, -9.0, 0.2, 9.0], dtype=torch.float64)
    half = 0.5 * math.tanh(0.5)
    expected = [1 + half, -1 + half, 0.0, 0.0, 1.0, 0.0]
    assert objective.shifted(advantage, contrast).tolist() == pytest.approx(expected)


def test_the_threshold_is_on_the_shift_so_that_small_contrasts_already_count():
    """0.5 tanh(e / 0.02) exceeds 0.02 from e = 0.02 artanh(0.04) = 0.0008004 nats on."""
    edge = 0.02 * math.atanh(0.04)
    contrast = torch.tensor([0.99 * edge, 1.01 * edge, -1.01 * edge, 0.01], dtype=torch.float64)
    after = rlcsd().shifted(torch.ones(4, dtype=torch.float64), contrast)
    shifts = [0.0, *(0.5 * math.tanh(float(e) / 0.02) for e in contrast[1:])]
    assert (after - 1).tolist() == pytest.approx(shifts, abs=1e-12)
    assert (RLCSD.Config().clip_low, RLCSD.Config().clip_high) == (0.2, 0.2)


def test_the_loss_and_its_gradient_use_the_shifted_advantages():
    scores = scored([1.0, -1.0], (1, [0.8, 0.8]), (-1, [0.2, 0.2]))
    loss = rlcsd().per_token(scores)
    assert loss.tolist() == pytest.approx([-1.5, 0.5])
    loss.sum().backward()
    assert scores.student.grad[:, 0].tolist() == pytest.approx([-1.5, 0.5])


def test_an_effect_of_every_hint_cancels():
    """Both kinds of hint make the token more likely than the student does, so its advantage is not shifted."""
    scores = scored([1.0], (1, [0.9]), (-1, [0.9]))
    assert rlcsd().per_token(scores).tolist() == [-1.0]


def test_the_loss_of_impossible_tokens_is_finite():
    scores = scored([1.0, -1.0], (1, [1.0, 1.0]), (-1, [0.5, 0.5]))
    impossible = torch.tensor([[-math.inf, 0.0]] * 2, dtype=torch.float64)
    for views in ((impossible, scores.views[1]), (scores.views[0], impossible), (impossible, impossible)):
        changed = rk.TokenScores(**{**vars(scores), "views": views})
        assert torch.isfinite(rlcsd().per_token(changed)).all()


def test_marks_follow_the_sources():
    views = [
        rk.TeacherView(prompt_ids=(1,), source=f"{kind} sibling {i}") for i, kind in enumerate(("right", "wrong", "wrong"))
    ]
    assert rlcsd().view_marks(fake_sample(teacher_views=views)) == [1.0, -1.0, -1.0]


def test_hints_are_siblings_with_the_right_one_first():
    group = fake_group(*MEMBERS)
    hints = RightAndWrong(RightAndWrong.Config(wrong=2))
    for rollout in group.rollouts:
        seen = set()
        for seed in range(20):
            first, *others = hints.views(group, rollout, [group], random.Random(seed))
            assert first.source.startswith("right") and first.text.startswith("right")
            assert len(others) == 2 and all(v.source.startswith("wrong") and v.text.startswith("wrong") for v in others)
            seen |= {first.text, *(view.text for view in others)}
        assert seen == {text for text, _ in MEMBERS} - {rollout.completion.text}


def test_without_both_kinds_there_are_no_hints():
    group = fake_group(("right a", True), ("wrong b", False))
    assert all(RightAndWrong().views(group, rollout, [group], random.Random(0)) == () for rollout in group.rollouts)


@given(st.floats(-2, 2), st.floats(-20, 20), st.floats(0, 3), st.floats(0.001, 5), st.floats(0, 1))
def test_the_sign_of_the_advantage_never_changes(advantage, contrast, strength, scale, threshold):
    objective = rlcsd(strength=strength, scale=scale, threshold=threshold)
    tensors = (torch.tensor([value], dtype=torch.float64) for value in (advantage, contrast))
    after = float(objective.shifted(*tensors))
    assert after * advantage >= 0
    assert abs(after - advantage) <= strength + 1e-9 or after == 0.0


def test_a_short_run_has_right_and_wrong_views(short_run):
    run = short_run(RECIPE, "demonstration.wrong=2")
    views = [len(record["teacher_prompts"]) for record in run.samples]
    assert set(views) <= {0, 2, 3} and 3 in views
    assert run.total("train/weighted_tokens") == sum(len(record["token_ids"]) for record in run.samples)
    assert run.total("train/loss/rlcsd") != 0
