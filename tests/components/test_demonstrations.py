"""The privileged text chosen for each rollout."""

from __future__ import annotations

import random
from dataclasses import replace

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


def views(component, group, index, batch=None, seed=0):
    return component().views(group, group.rollouts[index], batch or [group], random.Random(seed))


def texts_and_sources(component, group, index, **options):
    return [(view.text, view.source) for view in views(component, group, index, **options)]


def test_the_shortest_success_has_the_fewest_tokens_not_characters(make_group):
    group = make_group(("w", False), ("a b c", True), ("longwords here", True), ("x y z", True))
    assert texts_and_sources(ShortestSuccess, group, 0) == [("longwordshere", "sibling 2")]


def test_the_first_of_equally_short_successes_is_shown(make_group):
    group = make_group(("w", False), ("a b c", True), ("d e", True), ("f g", True))
    assert texts_and_sources(ShortestSuccess, group, 0) == [("de", "sibling 2")]
    assert texts_and_sources(ShortestSuccess, group, 2) == [("fg", "sibling 3")]


def test_the_first_success_skips_failures_and_the_rollout_itself(make_group):
    group = make_group(("w", False), ("a", True), ("v", False), ("b", True))
    assert texts_and_sources(FirstSuccess, group, 0) == [("a", "sibling 1")]
    assert texts_and_sources(FirstSuccess, group, 1) == [("b", "sibling 3")]


@pytest.mark.parametrize("component", SIBLINGS)
def test_a_group_without_another_success_has_no_demonstration(make_group, component):
    assert texts_and_sources(component, make_group(("w", False), ("v", False)), 0) == []
    assert texts_and_sources(component, make_group(("a", True), ("v", False)), 0) == []
    assert texts_and_sources(component, make_group(("a", True)), 0) == []


def test_a_random_success_follows_the_seed_and_may_be_any_sibling(make_group):
    group = make_group(("w", False), ("a", True), ("b", True), ("c", True))
    drawn = [texts_and_sources(RandomSuccess, group, 0, seed=seed)[0] for seed in range(60)]
    assert drawn == [texts_and_sources(RandomSuccess, group, 0, seed=seed)[0] for seed in range(60)]
    assert set(drawn) == {("a", "sibling 1"), ("b", "sibling 2"), ("c", "sibling 3")}


def test_the_reference_is_the_solution_of_the_problem(make_group):
    assert texts_and_sources(Reference, make_group(("w", False)), 0) == [("the reference", "reference")]
    assert texts_and_sources(Reference, make_group(("w", False), solution=None), 0) == []


def test_other_problem_never_shows_the_own_solution(make_group):
    group = make_group(("w", False), id="own", solution="own solution")
    other = make_group(("w", False), id="other", solution="other solution")
    bare = make_group(("w", False), id="bare", solution=None)
    assert {texts_and_sources(OtherProblem, group, 0, batch=[group, bare, other], seed=seed)[0] for seed in range(20)} == {
        ("other solution", "problem other")
    }
    assert texts_and_sources(OtherProblem, group, 0, batch=[group, bare]) == []


@pytest.mark.parametrize("component", SIBLINGS)
@pytest.mark.parametrize("thought", ["<think>3?2?</think>", "3?2?</think>", "[THINK]3?[/THINK]", "<ponder>3?</ponder>"])
def test_the_thinking_of_a_sibling_is_not_shown_unless_wanted(make_group, component, thought):
    group = make_group(("w", False), (f"{thought}It=2.", True))

    def shown(demonstration):
        demonstration.thinking = (("<ponder>", "</ponder>"),)
        return [view.text for view in demonstration.views(group, group.rollouts[0], [group], random.Random(0))]

    assert shown(component()) == ["It=2."]
    assert shown(component(component.Config(thinking="keep"))) == [f"{thought}It=2."]


@pytest.mark.parametrize("component", SIBLINGS)
def test_a_success_that_shows_nothing_but_thinking_is_no_demonstration(make_group, component):
    group = make_group(("w", False), ("<think>a", True), ("b", True), ("c<think>", False))
    assert texts_and_sources(component, group, 0) == [("b", "sibling 2")]
    assert texts_and_sources(component, make_group(("w", False), ("<think>a", True)), 0) == []


def test_the_thinking_of_a_solution_in_the_data_is_not_shown(make_group):
    group = make_group(("w", False), solution="<think>hm</think>\n\nIt is 2.\n", id="own")
    other = make_group(("w", False), solution="<think>hm</think> 4", id="other")
    assert texts_and_sources(Reference, group, 0) == [("It is 2.", "reference")]
    assert texts_and_sources(OtherProblem, group, 0, batch=[group, other]) == [("4", "problem other")]
    assert texts_and_sources(Reference, make_group(("w", False), solution=" plain "), 0) == [(" plain ", "reference")]


def test_reasoning_that_the_problem_asks_for_is_part_of_the_solution(make_group):
    answer = "<think>hm</think><reasoning>1+1</reasoning><answer>2</answer>"
    group = make_group(("w", False), (answer, True))
    assert texts_and_sources(FirstSuccess, group, 0) == [("<answer>2</answer>", "sibling 1")]
    asking = ({"role": "system", "content": "Write <reasoning> steps </reasoning>."}, *group.problem.messages)
    group = replace(group, problem=replace(group.problem, messages=asking))
    assert texts_and_sources(FirstSuccess, group, 0) == [(answer.removeprefix("<think>hm</think>"), "sibling 1")]


def test_no_demonstration_shows_nothing(make_group):
    assert texts_and_sources(NoDemonstration, make_group(("a", True), ("b", True)), 0) == []


@given(successes=st.lists(st.booleans(), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=100)
def test_no_demonstration_is_the_rollout_itself_or_a_failure(successes, seed, data):
    rollouts = tuple(
        Rollout(
            index=i,
            completion=Completion(
                prompt_ids=(1,), token_ids=(i,), logprobs=(0.0,), text=str(i), token_spans=((0, 1),), finish_reason="stop"
            ),
            verdict=Verdict(score=float(success), success=success),
        )
        for i, success in enumerate(successes)
    )
    group = Group(problem=Problem(id="p", messages=(), answer="", solution="reference"), rollouts=rollouts)
    index = data.draw(st.integers(0, len(successes) - 1))
    for component in COMPONENTS:
        for view in views(component, group, index, seed=seed):
            assert view.text == "reference" or (int(view.text) != index and successes[int(view.text)])
