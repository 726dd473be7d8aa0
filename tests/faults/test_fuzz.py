"""Recorded and new cases of the fuzzer; `python -m tests.faults.fuzz` tries many more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.fuzz import TARGETS, attempt, campaign

SEEDS = json.loads(Path(__file__).with_name("seeds.json").read_text())
NEW_CASES = {"recipes": 60, "tags": 1500, "spans": 400, "quotes": 800}
NUMBERS = [
    (target, number) for target in TARGETS for number in sorted({*SEEDS[target]["failed"], *SEEDS[target]["first"].values()})
]


@pytest.mark.parametrize(("target", "number"), NUMBERS)
def test_a_recorded_case_still_passes(target, number):
    outcome = attempt(target, number)
    assert SEEDS[target]["first"].get(outcome, number) <= number


@pytest.mark.parametrize("target", TARGETS)
def test_new_cases_pass(target):
    outcomes, failed, _ = campaign(target, 1_000_000, NEW_CASES[target])
    assert not failed, f"python -m tests.faults.fuzz {target} --first {failed[0][0]} --cases 1 --show"
    assert len(outcomes) > 1, "all cases have the same outcome: the fuzzer tests nothing"
