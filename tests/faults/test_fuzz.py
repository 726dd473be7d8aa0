"""Kept cases of the fuzzers, and some fresh ones; `python -m tests.faults.fuzz` tries as many as wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.fuzz import TARGETS, attempt, campaign

SEEDS = json.loads(Path(__file__).with_name("seeds.json").read_text())
FRESH = {"recipes": 60, "tags": 1500, "spans": 400, "quotes": 800}
NUMBERS = [
    (target, number) for target in TARGETS for number in sorted({*SEEDS[target]["failed"], *SEEDS[target]["first"].values()})
]


@pytest.mark.parametrize(("target", "number"), NUMBERS)
def test_kept_cases(target, number):
    outcome = attempt(target, number)
    assert SEEDS[target]["first"].get(outcome, number) <= number


@pytest.mark.parametrize("target", TARGETS)
def test_fresh_cases(target):
    outcomes, failed, _ = campaign(target, 1_000_000, FRESH[target])
    assert not failed, f"python -m tests.faults.fuzz {target} --first {failed[0][0]} --cases 1 --show"
    assert len(outcomes) > 1, "all cases came out the same: the fuzzer looks at nothing"
