"""Token weights and the list of weighted tokens."""

from __future__ import annotations

import pytest
import torch

from rosd_kit.components.objectives import Distill, PolicyGradient
from rosd_kit.model.tensors import select_rows
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.training.token_weights import compute_weights, weighted_tokens
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


def test_weights_and_advantages_come_from_every_objective() -> None:
    step = compute_weights(SAMPLES, TERMS)
    assert [weights.tolist() for weights in step.per_sample] == [
        [[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]],
        [[0.0, 0.0], [1.0, 1.0]],
        [[1.0], [0.0]],
    ]
    assert step.totals == [2.5, 5.0]
    assert [advantages.tolist() for advantages in step.advantages] == [[0.0, 0.5]] * 3
    assert step.weighted_samples() == [0, 1, 2]


def test_samples_without_weight_are_left_out() -> None:
    step = compute_weights([sample((3,), (0.0,)), SAMPLES[0], sample((), ())], TERMS[:1])
    assert step.weighted_samples() == [1]


def test_a_wrong_number_of_weights_and_negative_weights_are_refused() -> None:
    with pytest.raises(AssertionError, match="number of weights"):
        compute_weights([sample((3, 4), (1.0,))], TERMS)
    with pytest.raises(AssertionError, match="negative"):
        compute_weights([sample((3,), (-1.0,))], TERMS)


def test_weighted_tokens_are_those_that_any_term_covers() -> None:
    step = compute_weights(SAMPLES, TERMS)
    tokens = weighted_tokens(SAMPLES, step.per_sample, step.advantages, TERMS)
    assert tokens.sample.tolist() == [0, 0, 0, 1, 1, 2]
    assert tokens.token.tolist() == [0, 1, 2, 0, 1, 0]
    assert tokens.sampled.tolist() == [3, 4, 5, 6, 7, 8]
    assert tokens.behaviour.tolist() == pytest.approx([-0.3, -0.4, -0.5, -0.6, -0.7, -0.8])
    assert tokens.views.tolist() == [0, 2, 2, 0, 0, 1]
    assert tokens.weights.tolist() == [[0, 1, 0.5, 0, 0, 1], [1, 1, 1, 1, 1, 0]]
    middle = tokens.select(slice(1, 3))
    assert (middle.sampled.tolist(), middle.weights.tolist(), len(middle)) == ([4, 5], [[1, 0.5], [1, 1]], 2)


def test_unweighted_tokens_are_left_out() -> None:
    step = compute_weights(SAMPLES[:1], TERMS[:1])
    tokens = weighted_tokens(SAMPLES[:1], step.per_sample, step.advantages, TERMS[:1])
    assert (tokens.token.tolist(), tokens.sampled.tolist()) == ([1, 2], [4, 5])


def test_select_rows_copies_only_when_some_rows_are_left_out() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert select_rows(values, torch.arange(3)) is values
    assert select_rows(values, torch.tensor([0, 2])).tolist() == [1.0, 3.0]
