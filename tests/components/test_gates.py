"""Gates: which rollouts pass."""

from __future__ import annotations

import pytest

from rosd_kit.components.gates import AllRollouts, MixedGroups


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
