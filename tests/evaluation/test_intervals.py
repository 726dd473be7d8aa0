"""Bootstrap intervals: known cases, coverage on simulated data, clusters and pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.evaluation.intervals import Interval, bootstrap_mean, cluster_means, paired_difference
from rosd_kit.evaluation.mean_at_k import MeanAtK

shares = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30)


@given(shares)
@settings(max_examples=60)
def test_the_interval_contains_the_mean_and_stays_within_the_bounds(scores):
    interval = bootstrap_mean(scores, resamples=200)
    assert interval.mean == pytest.approx(np.mean(scores))
    assert -1e-12 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1 + 1e-12


def test_the_interval_is_reproducible_and_depends_little_on_the_seed():
    scores = np.random.default_rng(0).uniform(size=100).tolist()
    one, other = bootstrap_mean(scores, seed=1), bootstrap_mean(scores, seed=2)
    assert bootstrap_mean(scores, seed=1) == one != other
    assert one.low == pytest.approx(other.low, abs=0.01)


def test_with_many_scores_the_interval_is_the_normal_one():
    scores = np.random.default_rng(0).binomial(1, 0.3, size=1000)
    interval = bootstrap_mean(scores.tolist(), resamples=4000)
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.003)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.003)


def test_the_block_size_does_not_change_the_interval(monkeypatch):
    scores = np.random.default_rng(0).uniform(size=50).tolist()
    whole = bootstrap_mean(scores)
    monkeypatch.setattr("rosd_kit.evaluation.intervals._MAX_BLOCK", 130)
    assert bootstrap_mean(scores) == whole


def test_the_interval_of_two_scores_ends_at_the_scores():
    assert bootstrap_mean([0.0, 1.0]) == Interval(mean=0.5, low=0.0, high=1.0)


def test_equal_scores_have_the_exact_binomial_bound():
    """With n equal scores the bound is 1 - 0.025^(1/n)."""
    few, many = bootstrap_mean([1.0] * 4), bootstrap_mean([1.0] * 400)
    assert (few.mean, few.high) == (many.mean, many.high) == (1.0, 1.0)
    assert few.low == pytest.approx(0.025 ** (1 / 4))
    assert many.low == pytest.approx(0.025 ** (1 / 400))


def test_equal_scores_have_no_width_if_the_bounds_are_equal():
    assert bootstrap_mean([0.5] * 9, bounds=(0.5, 0.5)) == Interval(mean=0.5, low=0.5, high=0.5, worst_case=True)


@pytest.mark.parametrize("scores", [[], [0.5, float("nan")], [float("inf")]])
def test_no_scores_or_a_score_that_is_not_finite_is_an_error(scores):
    with pytest.raises(ValueError, match="at least one score, all of them finite"):
        bootstrap_mean(scores)


@pytest.mark.parametrize(("problems", "least"), [(20, 0.90), (64, 0.92)])
def test_intervals_over_problems_have_nearly_their_nominal_coverage(problems, least):
    """Each problem has its own difficulty and four samples; the true value is the mean difficulty."""
    rng = np.random.default_rng(7)
    covered = []
    for seed in range(250):
        difficulty = rng.beta(0.8, 1.2, size=problems)
        answers = rng.binomial(4, difficulty) / 4
        interval = bootstrap_mean(answers.tolist(), seed=seed, resamples=400)
        covered.append(interval.low <= 0.4 <= interval.high)
    assert least <= np.mean(covered) <= 0.985


def test_samples_of_one_problem_are_not_treated_as_independent(tmp_path):
    """Sixteen copies of each of ten answers contain no more information than the ten answers."""
    answers = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    copies = {
        "predictions": [answer for answer in answers for _ in range(16)],
        "references": [f"p{i}" for i in range(10) for _ in range(16)],
    }
    metric, expected = MeanAtK(keep_in_memory=True, cache_dir=str(tmp_path)).compute(**copies), bootstrap_mean(answers)
    assert (metric["mean_at_k"], metric["low"], metric["high"]) == (expected.mean, expected.low, expected.high)
    assert metric["problems"] == 10
    if_independent = bootstrap_mean(copies["predictions"])
    assert if_independent.high - if_independent.low < 0.4 * (metric["high"] - metric["low"])


def test_cluster_means_are_computed_per_problem():
    assert cluster_means([1, 0, 1, 1], ["a", "a", "b", "a"]) == {"a": pytest.approx(2 / 3), "b": 1.0}
    with pytest.raises(ValueError):
        cluster_means([1, 0], ["a"])


def test_pairing_removes_the_variation_between_problems():
    before = {f"p{i}": float(i % 2) * 0.75 for i in range(40)}
    after = {problem: score + (0.25 if i % 4 else 0.125) for i, (problem, score) in enumerate(before.items())}
    paired, unpaired = paired_difference(before, after), bootstrap_mean(list(after.values()))
    assert paired.mean == pytest.approx(np.mean(list(after.values())) - np.mean(list(before.values())))
    assert paired.excludes(0.0)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_pairs_are_matched_by_problem_and_not_by_order():
    before, after = {"a": 0.0, "b": 1.0}, {"b": 1.0, "a": 0.0}
    interval = paired_difference(before, after)
    assert interval.mean == 0.0
    assert not interval.excludes(0.0)


@given(shares)
@settings(max_examples=30)
def test_swapping_before_and_after_changes_the_sign(scores):
    before = {str(i): score for i, score in enumerate(scores)}
    after = {str(i): score for i, score in enumerate(reversed(scores))}
    one, other = paired_difference(before, after, resamples=100), paired_difference(after, before, resamples=100)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high)


def test_different_problems_cannot_be_paired():
    with pytest.raises(ValueError, match="same problems"):
        paired_difference({"a": 1.0}, {"b": 1.0})


def test_the_ends_of_an_interval_are_inside():
    interval = Interval(mean=0.5, low=0.0, high=1.0)
    assert not interval.excludes(0.0)
    assert interval.excludes(-0.001)
