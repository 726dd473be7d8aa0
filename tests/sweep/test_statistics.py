"""The statistics of sweeps: hand-computed cases, properties, and error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.sweep.statistics import _variance, holm, mean_with_interval, resampled_means

WIDE = (-9.0, 9.0)


def test_holm_of_hand_computed_cases():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1.0, len(p_values) * p) for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_the_variance_of_a_mean_of_a_hand_computed_case():
    table = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    # Seeds: means 1/3 and 1, variance 2/9, variance of their mean 1/9.
    # Problems: means 1/2, 1, 1/2, variance 1/12, variance of their mean 1/36.
    # Residuals: 1/6 and 1/3, squares add up to 1/3; over 2 degrees of freedom 1/6; over 6 cells 1/36.
    variance = _variance([table])
    assert variance.seeds == pytest.approx(1 / 9)
    assert variance.problems == pytest.approx(0.0, abs=1e-12)
    assert variance.degrees_of_freedom == pytest.approx(1.0)
    result = mean_with_interval([table])
    assert result.mean == pytest.approx(2 / 3)
    # t with one degree of freedom is the Cauchy distribution, and t = (2/3) / (1/3) = 2.
    assert result.p_value == pytest.approx(2 * (0.5 - np.arctan(2.0) / np.pi))


def test_with_one_seed_the_p_value_is_the_t_test_over_problems():
    scipy_stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).normal(0.1, 1, 30)
    result = mean_with_interval([scores[None]], bounds=WIDE)
    assert result.p_value == pytest.approx(scipy_stats.ttest_1samp(scores, 0).pvalue)
    assert result.seeds == 1 and result.mean == pytest.approx(scores.mean())


def test_the_mean_weights_suites_equally_regardless_of_size():
    assert mean_with_interval([np.array([[0, 0, 0], [1, 1, 1]]), np.ones((2, 50))]).mean == pytest.approx(0.75)


def test_equal_scores_still_have_an_interval():
    result = mean_with_interval([np.zeros((3, 64))], bounds=(-1.0, 1.0))
    assert result.p_value == 1.0 and result.interval.low < 0 < result.interval.high
    assert mean_with_interval([np.ones((3, 8))], bounds=(-1.0, 1.0)).p_value == pytest.approx(2.0**-7)
    for mean, problems in ((0.25, 16), (0.25, 17), (-0.5, 9), (-0.5, 10)):  # 0 leaves the interval where p falls below 0.05
        result = mean_with_interval([np.full((2, problems), mean)], bounds=(-1.0, 1.0))
        assert (result.p_value < 0.05) == result.interval.excludes(0.0)


def test_an_interval_is_reproducible_and_lies_within_the_bounds():
    table = np.array([[0.9, 1.0, 1.0], [1.0, 1.0, 0.2]])
    assert mean_with_interval([table]) == mean_with_interval([table])
    assert mean_with_interval([table]).interval.high <= 1.0


@pytest.mark.parametrize(
    "suites", [[], [np.zeros((0, 3))], [np.zeros(3)], [np.array([[np.nan]])], [np.zeros((2, 3)), np.zeros((3, 3))]]
)
def test_invalid_score_tables_are_refused(suites):
    with pytest.raises(ValueError, match=r"table|seeds"):
        mean_with_interval(suites)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_swapping_the_sides_of_a_difference_changes_only_its_sign(seeds, problems, seed):
    table = np.random.default_rng(seed).normal(0, 1, (seeds, problems))
    one, other = mean_with_interval([table], bounds=WIDE), mean_with_interval([-table], bounds=WIDE)
    assert one.mean == pytest.approx(-other.mean) and one.p_value == pytest.approx(other.p_value)
    assert one.interval.low == pytest.approx(-other.interval.high)


def simulated(rng, seeds, suites, *, between_seeds, between_problems, noise, problems=64):
    """Return differences with true mean 0: the sum of a seed effect, a problem effect and noise."""
    seed_effect = rng.normal(0, between_seeds, (seeds, 1))
    return [
        seed_effect + rng.normal(0, between_problems, (1, problems)) + rng.normal(0, noise, (seeds, problems))
        for _ in range(suites)
    ]


def rates(draw, trials):
    """Return how often our interval contains 0, how often that of the plain bootstrap does, and how often p < 0.05."""
    ours = plain = significant = 0
    for trial in range(trials):
        tables = draw()
        result = mean_with_interval(tables, bounds=WIDE, seed=trial, resamples=200)
        low, high = np.quantile(resampled_means(tables, trial, 200), (0.025, 0.975))
        ours += not result.interval.excludes(0.0)
        plain += low <= 0 <= high
        significant += result.p_value < 0.05
    return ours / trials, plain / trials, significant / trials


@pytest.mark.parametrize(
    ("seeds", "suites", "effects"),
    [
        (3, 1, {"between_seeds": 0.1, "between_problems": 0.05, "noise": 0.05}),
        (3, 1, {"between_seeds": 0.005, "between_problems": 0.3, "noise": 0.2}),
        (5, 1, {"between_seeds": 0.03, "between_problems": 0.2, "noise": 0.2}),
        (3, 4, {"between_seeds": 0.03, "between_problems": 0.2, "noise": 0.2}),
        (1, 1, {"between_seeds": 0.0, "between_problems": 0.2, "noise": 0.2}),
    ],
    ids=["seeds differ most", "problems differ most", "five seeds", "four suites", "one seed"],
)
def test_intervals_cover_the_truth_and_false_positives_are_rare(seeds, suites, effects):
    rng = np.random.default_rng(1)
    ours, _, significant = rates(lambda: simulated(rng, seeds, suites, **effects), 250)
    assert 0.90 <= ours <= 0.995  # three standard errors of 250 trials at 95 % are 4 points
    assert significant <= 0.10


def test_plain_bootstrap_intervals_of_three_seeds_would_be_too_narrow():
    rng = np.random.default_rng(1)
    ours, plain, _ = rates(lambda: simulated(rng, 3, 1, between_seeds=0.1, between_problems=0.05, noise=0.05), 250)
    assert plain < 0.82 < 0.90 < ours


def test_holm_keeps_false_positives_rare_over_many_comparisons():
    rng = np.random.default_rng(2)
    effects = {"between_seeds": 0.03, "between_problems": 0.1, "noise": 0.2}
    trials, raw, corrected = 60, 0, 0
    for _ in range(trials):
        p_values = [mean_with_interval(simulated(rng, 3, 1, **effects), bounds=WIDE, resamples=20).p_value for _ in range(10)]
        raw += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert corrected / trials <= 0.15 < raw / trials


def test_a_real_difference_is_detected():
    rng = np.random.default_rng(3)
    effects = {"between_seeds": 0.02, "between_problems": 0.1, "noise": 0.2}
    p_values = [
        mean_with_interval([table + 0.2 for table in simulated(rng, 3, 1, **effects)], bounds=WIDE, resamples=20).p_value
        for _ in range(50)
    ]
    assert sum(p_value < 0.05 for p_value in p_values) >= 45
