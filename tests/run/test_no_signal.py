"""Missing signal is explained by its cause: failing verifier, cut-off, unreadable, too hard or too easy."""

from __future__ import annotations

from collections import Counter

import pytest

from rosd_kit.display.text import left_out
from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.run.dry_run import rehearse
from rosd_kit.run.no_signal import advice
from rosd_kit.settings import WatchSettings

STUCK = {"rollout/count": 8.0, "verify/ok": 8.0, "gate/all_wrong": 2.0}
CAUSES = {
    "verifier": ({"rollout/count": 8.0, "verify/error": 8.0}, "the verifier failed on"),
    "graded": ({**STUCK, "rollout/reward_spread": 0.5}, "Set gate=mixed_rewards"),
    "truncated": ({**STUCK, "rollout/truncated": 5.0}, "Raise sampling.max_new_tokens"),
    "unparsable": ({**STUCK, "verify/ok": 2.0, "verify/unparsable": 6.0}, "the verifier found no answer in"),
    "always the same": ({**STUCK, "gate/all_right": 1.0, "diversity/wrong_answers": 0.375}, "Raise sampling.temperature"),
    "too hard": (STUCK, "every response was wrong"),
    "too easy": ({**STUCK, "gate/all_wrong": 0.0, "gate/all_right": 2.0}, "every response was right"),
    "both": ({**STUCK, "gate/all_right": 1.0}, "Change the problems' difficulty, or raise group_size"),
}


@pytest.mark.parametrize(("metrics", "told"), CAUSES.values(), ids=CAUSES)
def test_each_cause_has_its_advice(metrics, told):
    text = advice(Counter(metrics).__getitem__, 5)
    assert told in text and "5 steps" in text
    assert ("8 of 8 responses" in text) == ("failed" in told) and ("6 of 8 responses" in text) == ("found no" in told)
    assert sum(other in text for _, other in CAUSES.values()) == 1


def test_responses_that_were_cut_off_are_not_called_wrong_where_the_verifier_scores_them():
    cut = Counter({**STUCK, "rollout/truncated": 5.0}).__getitem__
    assert "counts as wrong" in advice(cut, 5) and "verifier.truncated=score" in advice(cut, 5)
    scored = advice(cut, 5, truncated="score")
    assert "cut off" in scored and "wrong" not in scored and "verifier.truncated" not in scored


@pytest.mark.parametrize(("metrics", "told"), CAUSES.values(), ids=CAUSES)
def test_a_run_warns_of_the_cause_once(metrics, told):
    watch = CollapseWatch(WatchSettings(patience=2))
    [warning] = [text for _ in range(4) for text in watch.step(metrics)]
    assert told in warning


def test_the_reasons_of_a_step_without_samples_are_counted():
    metrics = {"gate/all_wrong": 3.0, "gate/mixed": 1.0, "skip/truncated": 1.0, "sample/no_weight": 2.0, "sample/ok": 4.0}
    assert left_out(metrics) == "3 groups all wrong, 1 rollout truncated, 2 rollouts no weight"
    assert left_out({"gate/mixed": 2.0, "sample/ok": 4.0}) == ""


def test_a_dry_run_without_a_sample_says_why_and_shows_a_response():
    plugins = PluginManager(selection="builtin")
    changes = ["sampling.max_new_tokens=2", "problems_per_step=2", "group_size=2", "evaluation.problems=0"]
    with pytest.raises(RunError) as caught:
        rehearse(load_recipe("rosd", changes, registry=plugins.registry), plugins)
    message = str(caught.value)
    assert message.startswith("no sample to train on in 5 steps: 10 groups all wrong.\n")
    assert "most responses were cut off at their length limit" in message
    assert "A response of the last step, judged unparsable with score 0: '" in message
