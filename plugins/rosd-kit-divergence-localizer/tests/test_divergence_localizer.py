"""The localizer `parting`: the laws of its slot, hand-computed weights, and a short run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosd_kit_divergence_localizer import Parting

import rosd_kit as rk
from rosd_kit.testing import fake_case, fake_sample, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
MEASURES = ("divergence", "gap", "student_entropy")
SHAPES = ("top", "onward", "soft")


def parting(**options: object) -> Parting:
    return Parting(Parting.Config(**options))


def scores_with(**changes: tuple[float, ...]) -> rk.SampleScores:
    values = {
        "divergence": (0.1, 0.0, 0.5, 0.3),
        "student": (-1.0, -1.0, -1.0, -1.0),
        "teacher": (-2.0, -0.5, -1.0, -4.0),
        "student_entropy": (0.2, 0.8, 0.0, 0.4),
        "teacher_entropy": (0.0, 0.0, 2.0, 0.0),
    }
    return rk.SampleScores(**values | changes)


@parametrize_with_checks([Parting(), parting(shape="soft", keep=1.0), parting(measure="gap", shape="onward")])
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shape": "top"}, [0, 0, 1, 1]),
        ({"shape": "onward"}, [0, 0, 1, 1]),
        ({"shape": "soft"}, [0, 0, 1, 0.6]),
        ({"measure": "gap", "shape": "top"}, [1, 0, 0, 1]),
        ({"measure": "gap", "shape": "onward"}, [1, 1, 1, 1]),
        ({"measure": "gap", "shape": "soft"}, [1 / 3, 0, 0, 1]),
        ({"measure": "student_entropy", "shape": "top"}, [0, 1, 0, 1]),
        ({"measure": "student_entropy", "shape": "soft"}, [0, 1, 0, 0.5]),
    ],
)
def test_weights_match_hand_computed_ones(options, expected):
    weights = parting(keep=0.5, **options).refine(fake_sample(length=4), scores_with())
    assert weights == pytest.approx(expected)


def test_an_uncertain_teacher_counts_less():
    """0.5 exp(-2 ln 2) = 0.125 falls below 0.3."""
    weights = parting(keep=0.25, discount=math.log(2)).refine(fake_sample(length=4), scores_with())
    assert weights == [0.0, 0.0, 0.0, 1.0]
    soft = parting(keep=1.0, discount=math.log(2), shape="soft").refine(fake_sample(length=4), scores_with())
    assert soft == pytest.approx([0.1 / 0.3, 0.0, 0.125 / 0.3, 1.0])


def test_previous_weights_stay_a_factor():
    sample = fake_sample(length=4, token_weights=(1.0, 1.0, 0.5, 0.0))
    assert parting(keep=0.5).refine(sample, scores_with()) == [0.0, 0.0, 0.5, 0.0]


def test_equal_networks_give_no_weight():
    same = scores_with(divergence=(0.0,) * 4)
    for shape in SHAPES:
        assert parting(shape=shape, keep=1.0).refine(fake_sample(length=4), same) == [0.0] * 4


def test_locate_gives_every_token_weight_1():
    weights = Parting().locate(fake_case("one two three"))
    assert (weights.weights, weights.outcome, weights.start_char) == ((1.0,) * 4, "scored", None)


@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
    st.sampled_from(SHAPES),
    st.sampled_from(MEASURES),
)
def test_at_most_the_share_keep_is_selected(measures, keep, shape, measure):
    values, length = tuple(measures), len(measures)
    zeros = (0.0,) * length
    scores = rk.SampleScores(
        divergence=values, student=zeros, teacher=tuple(-m for m in values), student_entropy=values, teacher_entropy=zeros
    )
    weights = parting(keep=keep, shape=shape, measure=measure).refine(fake_sample(length=length), scores)
    assert all(0.0 <= weight <= 1.0 for weight in weights)
    if shape == "onward":
        assert weights == sorted(weights)
    else:
        assert sum(weight > 0 for weight in weights) <= math.ceil(keep * length)
    if any(values):
        assert weights[max(range(length), key=values.__getitem__)] == 1.0


def test_a_short_run_trains_on_a_fifth_of_the_tokens(short_run):
    run = short_run(RECIPE)
    tokens = sum(len(record["token_ids"]) for record in run.samples)
    assert run.total("localize/scored") == len(run.samples) > 0
    assert 0.1 * tokens < run.total("train/weighted_tokens") <= 0.25 * tokens
    assert run.total("train/loss/distill") > 0
