"""Which rollouts go on."""

from __future__ import annotations

import pytest

from rosd_kit.components.gates import AllRollouts, MixedGroups


@pytest.mark.parametrize(
    ("rights", "outcome"),
    [
        ((False, False), "all_wrong"),
        ((True, True), "all_right"),
        ((True, False, True), "mixed"),
        ((False,), "all_wrong"),
        ((True,), "all_right"),
    ],
)
def test_only_mixed_groups_pass_and_then_whole(make_group, rights, outcome):
    group = make_group(*[("text", right) for right in rights])
    decision = MixedGroups().decide(group)
    assert decision.outcome == outcome
    expected = list(range(len(rights))) if outcome == "mixed" else []
    assert [(p.index, p.weight, p.route) for p in decision.passed] == [(i, 1.0, "*") for i in expected]


@pytest.mark.parametrize("rights", [(False, False), (True, True), (True, False)])
def test_no_gate_passes_everybody_and_tells_the_same_outcome(make_group, rights):
    group = make_group(*[("text", right) for right in rights])
    decision = AllRollouts().decide(group)
    assert [p.index for p in decision.passed] == [0, 1]
    assert decision.outcome == MixedGroups().decide(group).outcome
