"""Gates: which rollouts pass."""

from __future__ import annotations

import pytest

from rosd_kit.components.gates import AllRollouts, MixedGroups, MixedRewards
from rosd_kit.testing import fake_group, fake_rollout


@pytest.mark.parametrize(
    ("successes", "outcome"),
    [
        ((False, False), "all_wrong"),
        ((True, True), "all_right"),
        ((True, False, True), "mixed"),
        ((False,), "all_wrong"),
        ((True,), "all_right"),
    ],
)
def test_mixed_groups_passes_only_mixed_groups_and_all_of_their_rollouts(make_group, successes, outcome):
    group = make_group(*[("text", success) for success in successes])
    decision = MixedGroups().decide(group)
    assert decision.outcome == outcome
    expected = list(range(len(successes))) if outcome == "mixed" else []
    assert [(p.index, p.weight, p.route) for p in decision.passed] == [(i, 1.0, "*") for i in expected]


@pytest.mark.parametrize("successes", [(False, False), (True, True), (True, False)])
def test_all_passes_every_rollout_and_records_the_same_outcome(make_group, successes):
    group = make_group(*[("text", success) for success in successes])
    decision = AllRollouts().decide(group)
    assert [p.index for p in decision.passed] == [0, 1]
    assert decision.outcome == MixedGroups().decide(group).outcome


@pytest.mark.parametrize(
    ("rewards", "outcome"),
    [
        ((0.1, 0.9), "mixed"),
        ((0.0, 1.0), "mixed"),
        ((0.2, 0.2), "all_wrong"),
        ((1.0, 1.0), "all_right"),
        ((0.3,), "all_wrong"),
    ],
)
def test_mixed_rewards_passes_groups_whose_rewards_differ_though_none_is_a_success(rewards, outcome):
    members = [fake_rollout(index=index, score=reward, right=reward == 1.0) for index, reward in enumerate(rewards)]
    decision = MixedRewards().decide(fake_group(*members))
    assert decision.outcome == outcome
    assert [p.index for p in decision.passed] == (list(range(len(rewards))) if outcome == "mixed" else [])


def test_rewards_closer_than_the_spread_do_not_differ():
    group = fake_group(*(fake_rollout(index=index, score=score) for index, score in enumerate((0.50, 0.55))))
    assert not MixedRewards(MixedRewards.Config(min_spread=0.1)).decide(group).passed
    assert MixedRewards(MixedRewards.Config(min_spread=0.05)).decide(group).passed
