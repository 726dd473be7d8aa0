"""The evaluation before training is measured once per sweep, and again only when something it depends on changes."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.sweep.baseline import SharedBaseline

RESULTS = (
    SuiteResult(
        suite="sums",
        in_domain=True,
        mean=0.5,
        low=0.1,
        high=0.9,
        problems=2,
        samples=1,
        format_rate=1.0,
        mean_tokens=3.5,
        scores={"a": 0.0, "b": 1.0},
    ),
)


VERIFIER = """
import rosd_kit as rk

class Mine(rk.Verifier):
    '''Judges every response correct.'''
    name = 'mine'

    def verify(self, problem, text):
        return rk.Verdict(score=1.0, success=True)

@rk.hookimpl
def rosd_kit_components():
    return [Mine]
"""


@pytest.fixture
def request_count(tmp_path):
    """Return a function that requests the evaluation for these overrides and returns the number of measurements so far."""
    measurements, builtin = [], PluginManager(selection="builtin")

    def measure():
        time.sleep(0.05)
        measurements.append(1)
        return RESULTS

    def request(*words, weights="w", plugins=builtin):
        recipe = load_recipe("rosd", words, registry=plugins.registry)
        student = SimpleNamespace(fingerprint=weights, device="cpu")
        assert SharedBaseline(tmp_path / "evaluations")(recipe, student, plugins.registry, measure) == RESULTS
        return len(measurements)

    return request


def test_runs_that_differ_only_in_training_share_one_measurement(request_count):
    assert request_count() == 1
    assert request_count("seed=1") == 1
    assert request_count("localizer=full", "teacher=ema") == 1
    assert request_count("optimizer.lr=1e-5", "evaluation.every=3", "steps=5") == 1
    assert request_count("sampling.temperature=0.9", "sampling.top_p=0.9") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("evaluation.seed=1",),
        ("evaluation.samples=2",),
        ("sampling.max_new_tokens=9",),
        ("evaluation.max_new_tokens=9",),
        ("sampling.top_k=9",),
        ("evaluation.min_p=0.1",),
        ("sampling.stop=['#']",),
        ("task.train=coins",),
        ("model.dtype=bfloat16",),
    ],
)
def test_settings_that_it_depends_on_cause_a_new_measurement(request_count, words):
    assert (request_count(), request_count(*words)) == (1, 2)


def test_different_weights_cause_a_new_measurement(request_count):
    assert (request_count(), request_count(weights="v"), request_count(weights="v")) == (1, 2, 2)


def test_a_changed_verifier_plugin_causes_a_new_measurement(request_count, tmp_path):
    def with_file(text, *words):
        (tmp_path / "mine.py").write_text(VERIFIER + text)
        return request_count(*words, plugins=PluginManager([tmp_path / "mine.py"], selection="builtin"))

    assert (with_file("", "verifier=mine"), with_file("# changed\n", "verifier=mine")) == (1, 2)
    assert (with_file(""), with_file("# changed\n")) == (3, 3), "the plugin does not matter where its verifier is not used"


def test_of_concurrent_requests_one_measures_and_the_others_wait(request_count):
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(request_count())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1, 1, 1, 1]
