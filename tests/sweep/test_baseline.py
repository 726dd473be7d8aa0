"""The evaluation before training: made once, whoever asks, and made anew for whatever it depends on."""

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
    '''Everything is right.'''
    name = 'mine'

    def verify(self, problem, text):
        return rk.Verdict(score=1.0, success=True)

@rk.hookimpl
def rosd_kit_components():
    return [Mine]
"""


@pytest.fixture
def ask(tmp_path):
    """Ask for the evaluation of a run of these words; tell the number of measurements so far."""
    made, builtin = [], PluginManager(selection="builtin")

    def measure():
        time.sleep(0.05)
        made.append(1)
        return RESULTS

    def asked(*words, weights="w", plugins=builtin):
        recipe = load_recipe("rosd", words, registry=plugins.registry)
        student = SimpleNamespace(fingerprint=weights, device="cpu")
        assert SharedBaseline(tmp_path / "evaluations")(recipe, student, plugins.registry, measure) == RESULTS
        return len(made)

    return asked


def test_it_is_made_once_for_runs_that_differ_only_in_training(ask):
    assert ask() == 1
    others = [ask("seed=1"), ask("localizer=full", "teacher=ema"), ask("optimizer.lr=1e-5", "evaluation.every=3", "steps=5")]
    assert others == [1, 1, 1]


@pytest.mark.parametrize(
    "words",
    [
        ("evaluation.seed=1",),
        ("evaluation.samples=2",),
        ("sampling.max_new_tokens=9",),
        ("task.train=coins",),
        ("model.dtype=bfloat16",),
    ],
)
def test_it_is_made_anew_for_what_it_depends_on(ask, words):
    assert (ask(), ask(*words)) == (1, 2)


def test_other_weights_are_measured_themselves(ask):
    assert (ask(), ask(weights="v"), ask(weights="v")) == (1, 2, 2)


def test_it_is_made_anew_when_the_file_that_brings_the_verifier_has_changed(ask, tmp_path):
    def with_file(text, *words):
        (tmp_path / "mine.py").write_text(VERIFIER + text)
        return ask(*words, plugins=PluginManager([tmp_path / "mine.py"], selection="builtin"))

    assert (with_file("", "verifier=mine"), with_file("# mended\n", "verifier=mine")) == (1, 2)
    assert (with_file(""), with_file("# mended\n")) == (3, 3), "here it brings nothing that counts"


def test_of_several_who_ask_at_once_one_measures_and_the_others_wait(ask):
    told = []
    threads = [threading.Thread(target=lambda: told.append(ask())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [1, 1, 1, 1]
