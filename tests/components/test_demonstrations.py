"""Which privileged text a rollout is compared with."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.demonstrations import (
    COMPONENTS,
    FirstSuccess,
    NoDemonstration,
    OtherProblem,
    RandomSuccess,
    Reference,
    ShortestSuccess,
)
from rosd_kit.types import Completion, Group, Problem, Rollout, Verdict

SIBLINGS = [FirstSuccess, RandomSuccess, ShortestSuccess]


def shown(component, group, index, batch=None, seed=0):
    return component().views(group, group.rollouts[index], batch or [group], random.Random(seed))


def told(component, group, index, **more):
    return [(view.text, view.source) for view in shown(component, group, index, **more)]


def test_the_shortest_has_fewest_tokens_not_fewest_characters(make_group):
    group = make_group(("w", False), ("a b c", True), ("longwords here", True), ("x y z", True))
    assert told(ShortestSuccess, group, 0) == [("longwordshere", "sibling 2")]


def test_of_equally_short_successes_the_first_is_shown(make_group):
    group = make_group(("w", False), ("a b c", True), ("d e", True), ("f g", True))
    assert told(ShortestSuccess, group, 0) == [("de", "sibling 2")]
    assert told(ShortestSuccess, group, 2) == [("fg", "sibling 3")]


def test_the_first_success_skips_failures_and_the_rollout_itself(make_group):
    group = make_group(("w", False), ("a", True), ("v", False), ("b", True))
    assert told(FirstSuccess, group, 0) == [("a", "sibling 1")]
    assert told(FirstSuccess, group, 1) == [("b", "sibling 3")]


@pytest.mark.parametrize("component", SIBLINGS)
def test_a_group_without_another_success_shows_nothing(make_group, component):
    assert told(component, make_group(("w", False), ("v", False)), 0) == []
    assert told(component, make_group(("a", True), ("v", False)), 0) == []
    assert told(component, make_group(("a", True)), 0) == []


def test_a_random_success_is_the_seeds_choice_and_reaches_every_sibling(make_group):
    group = make_group(("w", False), ("a", True), ("b", True), ("c", True))
    drawn = [told(RandomSuccess, group, 0, seed=seed)[0] for seed in range(60)]
    assert drawn == [told(RandomSuccess, group, 0, seed=seed)[0] for seed in range(60)]
    assert set(drawn) == {("a", "sibling 1"), ("b", "sibling 2"), ("c", "sibling 3")}


def test_the_reference_is_the_problems_own_solution(make_group):
    assert told(Reference, make_group(("w", False)), 0) == [("the reference", "reference")]
    assert told(Reference, make_group(("w", False), solution=None), 0) == []


def test_another_problems_solution_is_never_the_own_one(make_group):
    own = make_group(("w", False), id="own", solution="own solution")
    other = make_group(("w", False), id="other", solution="other solution")
    bare = make_group(("w", False), id="bare", solution=None)
    assert {told(OtherProblem, own, 0, batch=[own, bare, other], seed=seed)[0] for seed in range(20)} == {
        ("other solution", "problem other")
    }
    assert told(OtherProblem, own, 0, batch=[own, bare]) == []


def test_none_shows_nothing(make_group):
    assert told(NoDemonstration, make_group(("a", True), ("b", True)), 0) == []


@given(rights=st.lists(st.booleans(), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_rollout_is_never_its_own_demonstration_and_a_failure_nobodys(rights, seed, data):
    rollouts = tuple(
        Rollout(
            index=i,
            completion=Completion(
                prompt_ids=(1,), token_ids=(i,), logprobs=(0.0,), text=str(i), token_spans=((0, 1),), finish_reason="stop"
            ),
            verdict=Verdict(score=float(right), success=right),
        )
        for i, right in enumerate(rights)
    )
    group = Group(problem=Problem(id="p", messages=(), answer="", solution="reference"), rollouts=rollouts)
    index = data.draw(st.integers(0, len(rights) - 1))
    for component in COMPONENTS:
        for view in shown(component, group, index, seed=seed):
            assert view.text == "reference" or (int(view.text) != index and rights[int(view.text)])
