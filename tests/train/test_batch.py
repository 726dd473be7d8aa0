"""Cutting, padding and the list of weighted tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.objectives import Distill, PolicyGradient
from rosd_kit.parts import WeightedObjective
from rosd_kit.train.batch import (
    cut,
    lay_out,
    take,
    weigh,
    weighted_tokens,
)
from rosd_kit.types import DistillSample, TeacherView


def sample(response: tuple[int, ...], weights: tuple[float, ...], views: int = 1, route: str = "*") -> DistillSample:
    return DistillSample(
        problem_id="p",
        prompt_ids=(1, 2),
        response_ids=response,
        behaviour_logprobs=tuple(-0.1 * token for token in response),
        token_weights=weights,
        teacher_views=tuple(TeacherView(prompt_ids=(9,) * (3 + view), source="s") for view in range(views)),
        reward=1.0,
        success=True,
        group_rewards=(1.0, 0.0),
        route=route,
    )


SAMPLES = [
    sample((3, 4, 5), (0.0, 1.0, 0.5), views=2),
    sample((6, 7), (1.0, 1.0), views=0, route="policy_gradient"),
    sample((8,), (1.0,), route="distill"),
]
TERMS = [WeightedObjective(Distill()), WeightedObjective(PolicyGradient(PolicyGradient.Config(advantage="mean")))]


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), max_size=30), budget=st.integers(1, 120), packed=st.booleans())
def test_cut_keeps_every_sample_once_and_the_budget(lengths: list[int], budget: int, packed: bool) -> None:
    groups = cut(lengths, budget, packed=packed)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        mine = [lengths[index] for index in group]
        assert len(group) == 1 or (sum(mine) if packed else len(group) * max(mine)) <= budget
    flat = [lengths[index] for group in groups for index in group]
    assert flat == sorted(flat, reverse=True)


def test_cut_hand_computed() -> None:
    assert cut([3, 9, 4, 4, 1], 8) == [[1], [2, 3], [0, 4]]
    assert cut([3, 9, 4, 4, 1], 8, packed=True) == [[1], [2, 3], [0, 4]]
    assert cut([3, 5, 4, 1], 9, packed=True) == [[1, 2], [0, 3]]
    assert cut([], 8) == []


def test_sequences_are_laid_out_in_rows_or_one_after_the_other() -> None:
    padded = lay_out([(5, 6, 7), (8,)], pad_id=0, packed=False)
    assert (padded.ids.tolist(), padded.positions, padded.starts.tolist()) == ([[5, 6, 7], [8, 0, 0]], None, [0, 3])
    packed = lay_out([(5, 6, 7), (8,)], pad_id=0, packed=True)
    assert packed.positions is not None
    assert (packed.ids.tolist(), packed.positions.tolist()) == ([[5, 6, 7, 8]], [[0, 1, 2, 0]])
    assert packed.starts.tolist() == [0, 3]


@pytest.mark.parametrize("packed", [False, True])
def test_logits_stand_one_place_before_their_token(packed: bool) -> None:
    sequences = [(11, 12, 1, 2, 3), (13, 14, 15, 4, 5, 6)]
    layout = lay_out(sequences, pad_id=0, packed=packed)
    rows = layout.predictions([2, 3], torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]))
    assert layout.ids.flatten()[rows].tolist() == [12, 2, 4]


def test_weigh_asks_every_objective() -> None:
    step = weigh(SAMPLES, TERMS)
    assert [weights.tolist() for weights in step.per_sample] == [
        [[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]],
        [[0.0, 0.0], [1.0, 1.0]],
        [[1.0], [0.0]],
    ]
    assert step.totals == [2.5, 5.0]
    assert [advantages.tolist() for advantages in step.advantages] == [[0.0, 0.5]] * 3
    assert step.covered() == [0, 1, 2]


def test_samples_without_weight_are_not_covered() -> None:
    step = weigh([sample((3,), (0.0,)), SAMPLES[0], sample((), ())], TERMS[:1])
    assert step.covered() == [1]


def test_weights_of_the_wrong_length_or_sign_are_refused() -> None:
    with pytest.raises(AssertionError, match="length"):
        weigh([sample((3, 4), (1.0,))], TERMS)
    with pytest.raises(AssertionError, match="negative"):
        weigh([sample((3,), (-1.0,))], TERMS)


def test_weighted_tokens_lists_what_any_term_covers() -> None:
    step = weigh(SAMPLES, TERMS)
    tokens = weighted_tokens(SAMPLES, step.per_sample, step.advantages, TERMS)
    assert tokens.sample.tolist() == [0, 0, 0, 1, 1, 2]
    assert tokens.token.tolist() == [0, 1, 2, 0, 1, 0]
    assert tokens.sampled.tolist() == [3, 4, 5, 6, 7, 8]
    assert tokens.behaviour.tolist() == pytest.approx([-0.3, -0.4, -0.5, -0.6, -0.7, -0.8])
    assert tokens.views.tolist() == [0, 2, 2, 0, 0, 1]
    assert tokens.weights.tolist() == [[0, 1, 0.5, 0, 0, 1], [1, 1, 1, 1, 1, 0]]
    part = tokens.part(slice(1, 3))
    assert (part.sampled.tolist(), part.weights.tolist(), len(part)) == ([4, 5], [[1, 0.5], [1, 1]], 2)


def test_unweighted_tokens_are_left_out() -> None:
    step = weigh(SAMPLES[:1], TERMS[:1])
    tokens = weighted_tokens(SAMPLES[:1], step.per_sample, step.advantages, TERMS[:1])
    assert (tokens.token.tolist(), tokens.sampled.tolist()) == ([1, 2], [4, 5])


def test_take_copies_only_when_something_is_left_out() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert take(values, torch.arange(3)) is values
    assert take(values, torch.tensor([0, 2])).tolist() == [1.0, 3.0]
