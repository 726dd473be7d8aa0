"""pass@k, majority@k, distinct-2 and means over suites: known cases and properties."""

from __future__ import annotations

import socket
from itertools import combinations
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rosd_kit.evaluation
from rosd_kit.evaluation.formulas import distinct_bigrams, majority_share, pass_at_k, pass_scores
from rosd_kit.evaluation.intervals import Interval, bootstrap_mean, mean_of
from rosd_kit.evaluation.results import suite_averages

FOLDER = Path(rosd_kit.evaluation.__file__).parent


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(samples, data):
    """Equation 1 of arXiv 2107.03374 is the share of all k-subsets of the samples that contain a correct one."""
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    subsets = list(combinations([True] * correct + [False] * (samples - correct), k))
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_many_samples_is_finite():
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)
    assert pass_at_k(10_000, 5_001, 5_000) == 1.0


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 1, 5), (4, 5, 1), (4, 1, 0), (4, -1, 1)])
def test_pass_at_k_of_invalid_counts_is_an_error(samples, correct, k):
    with pytest.raises(ValueError, match="is undefined"):
        pass_at_k(samples, correct, k)


@pytest.mark.parametrize(
    ("answers", "correct", "share"),
    [
        (["4", "4", "5"], [True, True, False], 1.0),
        (["4", "5", "5"], [True, False, False], 0.0),
        (["4", "5"], [True, False], 0.5),
        (["1/2", "0.5", "3", "3"], [True, True, False, False], 0.5),
        (["1/2", "0.5", "3"], [True, True, False], 1.0),
        ([None, "", "4"], [False, False, True], 1.0),
        ([None, None], [False, False], 0.0),
        ([None, "3"], [True, False], 0.5),
    ],
)
def test_the_majority_splits_ties_and_counts_correct_answers_as_one(answers, correct, share):
    assert majority_share(answers, correct) == share


def test_distinct_bigrams_count_pairs_over_all_samples():
    assert distinct_bigrams([[1, 2, 3], [1, 2, 4]]) == 3 / 4
    assert distinct_bigrams([[7, 7, 7, 7]]) == 1 / 3
    assert distinct_bigrams([[1], []]) is None


INPUTS = {
    "mean_at_k": ({"predictions": [1, 0, 1, 1], "references": ["a", "a", "b", "b"]}, 0.75),
    "pass_at_k": ({"predictions": [1, 0, 0, 0], "references": ["a", "a", "b", "b"], "k": 1}, 0.25),
    "majority_at_k": (
        {"predictions": [{"answer": "3", "right": 0.0}, {"answer": "4", "right": 1.0}], "references": ["a", "a"]},
        0.5,
    ),
    "format_rate": ({"predictions": ["ok", "unparsable"]}, 0.5),
    "mean_tokens": ({"predictions": [1, 2, 6]}, 3.0),
    "distinct_bigrams": ({"predictions": [[1, 2, 3], [1, 2, 4]], "references": ["a", "a"]}, 0.75),
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_metric_loads_from_disk_without_network(name, monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise AssertionError("a metric used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    inputs, expected = INPUTS[name]
    loaded = evaluate.load(str(FOLDER / f"{name}.py"), cache_dir=str(tmp_path), keep_in_memory=True)
    assert loaded.compute(**inputs)[name] == pytest.approx(expected)


def test_pass_at_k_skips_problems_with_too_few_samples():
    assert pass_scores([1, 0, 1], ["a", "a", "b"], k=2) == [1.0]
    with pytest.raises(ValueError, match="no problem has 3 samples"):
        pass_scores([1, 0], ["a", "a"], k=3)


def test_the_interval_of_a_mean_of_suites_matches_a_stratified_bootstrap():
    """Two suites with 200 problems each."""
    rng = np.random.default_rng(3)
    one, other = rng.binomial(1, 0.3, 200).astype(float), rng.binomial(1, 0.8, 200).astype(float)
    interval = mean_of([bootstrap_mean(one.tolist()), bootstrap_mean(other.tolist())])
    resampled = [(rng.choice(one, 200).mean() + rng.choice(other, 200).mean()) / 2 for _ in range(4000)]
    assert interval.mean == pytest.approx((one.mean() + other.mean()) / 2)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.006)


def test_the_mean_of_one_interval_is_itself_and_of_none_is_an_error():
    one = Interval(mean=0.5, low=0.2, high=0.6)
    assert mean_of([one]) == Interval(mean=0.5, low=pytest.approx(0.2), high=pytest.approx(0.6))
    assert mean_of([one, Interval(mean=1.0, low=0.9, high=1.0, worst_case=True)]).worst_case
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


def test_averages_that_repeat_another_are_omitted():
    half = Interval(mean=0.5, low=0.4, high=0.6)
    assert suite_averages([(True, half)]) == suite_averages([]) == {}
    assert list(suite_averages([(True, half), (False, half)])) == ["all suites"]
    assert list(suite_averages([(True, half), (False, half), (False, half)])) == ["other suites", "all suites"]
    assert list(suite_averages([(False, half), (False, half)])) == ["all suites"]
