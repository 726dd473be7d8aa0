"""The campaign of extreme numbers sees what it should; its fixed sample. `python -m tests.faults.extremes` runs everything."""

from __future__ import annotations

import time

import pytest

from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from tests.faults import extremes
from tests.faults.extremes import SAMPLE, Case, all_cases, attempt, label


@pytest.fixture(scope="module")
def manager():
    return PluginManager(selection="builtin")


def hangs(case, manager, folder, end):
    time.sleep(9999)


def breaks(case, manager, folder, end):
    raise ZeroDivisionError("x")


def refuses(case, manager, folder, end):
    raise RunError("sampling.top_k: is too large")


def mumbles(case, manager, folder, end):
    raise RunError("something is too large")


def works(case, manager, folder, end):
    pass


@pytest.mark.parametrize(
    ("work", "outcome"),
    [(hangs, "hung"), (breaks, "traceback"), (refuses, "refused"), (mumbles, "ended"), (works, "trained")],
)
def test_each_outcome_is_told(monkeypatch, manager, work, outcome):
    monkeypatch.setattr(extremes, "_train", work)
    found = attempt(Case("sampling.top_k", (), 1), manager, deadline=2 if work is hangs else 120)
    assert (found.outcome, found.is_bad) == (outcome, outcome in ("hung", "traceback", "ended"))


def test_every_numeric_option_is_among_the_cases(manager):
    options = {case.option for case in all_cases(manager.registry)}
    assert {"seed", "model.lora.rank", "sampling.temperature", "divergence.entry_clip", "objective.0.clip_high"} <= options
    assert {option for option, _ in SAMPLE} <= options


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in SAMPLE], ids=str)
def test_a_sample_is_refused_or_works(manager, case):
    cases = [each for each in all_cases(manager.registry) if (each.option, each.value) == case]
    assert cases
    for each in cases:
        outcome = attempt(each, manager, deadline=120)
        assert not outcome.is_bad, f"{label(each)}: {outcome}"
