"""The statistics of sweeps: hand-computed cases, laws, and by simulation how often they are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rosd_kit.sweep.statistics import _spread, estimate, holm, resampled_means

WIDE = (-9.0, 9.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_values_and_bonferroni_and_keeps_their_order(values):
    adjusted = holm(values)
    assert all(p <= a <= min(1.0, len(values) * p) for p, a in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=lambda place: values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)


def test_the_variance_of_a_mean_by_hand():
    table = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    # Seeds: means 1/3 and 1, variance 2/9, of their mean 1/9. Problems: 1/2, 1, 1/2, variance 1/12, of the mean 1/36.
    # What neither explains: residuals of 1/6 and 1/3, whose squares add up to 1/3, by 2 degrees 1/6, of 6 cells 1/36.
    spread = _spread([table])
    assert spread.seeds == pytest.approx(1 / 9)
    assert spread.problems == pytest.approx(0.0, abs=1e-12)
    assert spread.degrees == pytest.approx(1.0)
    found = estimate([table])
    assert found.mean == pytest.approx(2 / 3)
    assert found.p == pytest.approx(2 * (0.5 - np.arctan(2.0) / np.pi))  # t with one degree is Cauchy: (2/3) / (1/3) = 2


def test_one_seed_is_the_t_test_over_problems():
    scipy_stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).normal(0.1, 1, 30)
    found = estimate([scores[None]], bounds=WIDE)
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(scores, 0).pvalue)
    assert found.seeds == 1 and found.mean == pytest.approx(scores.mean())


def test_the_mean_is_that_of_the_suites_whatever_their_size():
    assert estimate([np.array([[0, 0, 0], [1, 1, 1]]), np.ones((2, 50))]).mean == pytest.approx(0.75)


def test_scores_that_are_all_equal_are_not_taken_for_certain():
    found = estimate([np.zeros((3, 64))], bounds=(-1.0, 1.0))
    assert found.p == 1.0 and found.interval.low < 0 < found.interval.high
    assert estimate([np.ones((3, 8))], bounds=(-1.0, 1.0)).p == pytest.approx(2.0**-7)
    for mean, problems in ((0.25, 16), (0.25, 17), (-0.5, 9), (-0.5, 10)):  # 0 leaves the interval where p falls below 0.05
        found = estimate([np.full((2, problems), mean)], bounds=(-1.0, 1.0))
        assert (found.p < 0.05) == found.interval.excludes(0.0)


def test_an_interval_lies_within_the_bounds_and_is_the_same_again():
    table = np.array([[0.9, 1.0, 1.0], [1.0, 1.0, 0.2]])
    assert estimate([table]) == estimate([table])
    assert estimate([table]).interval.high <= 1.0


@pytest.mark.parametrize(
    "suites", [[], [np.zeros((0, 3))], [np.zeros(3)], [np.array([[np.nan]])], [np.zeros((2, 3)), np.zeros((3, 3))]]
)
def test_what_is_no_table_is_refused(suites):
    with pytest.raises(ValueError, match=r"table|seeds"):
        estimate(suites)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_swapping_the_sides_of_a_difference_swaps_its_sign(seeds, problems, seed):
    table = np.random.default_rng(seed).normal(0, 1, (seeds, problems))
    one, other = estimate([table], bounds=WIDE), estimate([-table], bounds=WIDE)
    assert one.mean == pytest.approx(-other.mean) and one.p == pytest.approx(other.p)
    assert one.interval.low == pytest.approx(-other.interval.high)


def simulated(rng, seeds, suites, *, between_seeds, between_problems, noise, problems=64):
    """Return differences whose true mean is 0: a part of each seed, one of each problem, and noise."""
    own = rng.normal(0, between_seeds, (seeds, 1))
    return [
        own + rng.normal(0, between_problems, (1, problems)) + rng.normal(0, noise, (seeds, problems)) for _ in range(suites)
    ]


def rates(draw, trials):
    """Return how often the interval holds 0, how often the plain bootstrap's does, and how often p < 0.05."""
    ours = plain = wrong = 0
    for trial in range(trials):
        tables = draw()
        found = estimate(tables, bounds=WIDE, seed=trial, resamples=200)
        low, high = np.quantile(resampled_means(tables, trial, 200), (0.025, 0.975))
        ours += not found.interval.excludes(0.0)
        plain += low <= 0 <= high
        wrong += found.p < 0.05
    return ours / trials, plain / trials, wrong / trials


@pytest.mark.parametrize(
    ("seeds", "suites", "parts"),
    [
        (3, 1, {"between_seeds": 0.1, "between_problems": 0.05, "noise": 0.05}),
        (3, 1, {"between_seeds": 0.005, "between_problems": 0.3, "noise": 0.2}),
        (5, 1, {"between_seeds": 0.03, "between_problems": 0.2, "noise": 0.2}),
        (3, 4, {"between_seeds": 0.03, "between_problems": 0.2, "noise": 0.2}),
        (1, 1, {"between_seeds": 0.0, "between_problems": 0.2, "noise": 0.2}),
    ],
    ids=["seeds differ most", "problems differ most", "five seeds", "four suites", "one seed"],
)
def test_intervals_hold_the_truth_and_nothing_is_found_where_nothing_is(seeds, suites, parts):
    rng = np.random.default_rng(1)
    ours, _, wrong = rates(lambda: simulated(rng, seeds, suites, **parts), 250)
    assert 0.90 <= ours <= 0.995  # three standard errors of 250 trials at 95 % are 4 points
    assert wrong <= 0.10


def test_the_plain_bootstrap_of_three_seeds_would_claim_too_much():
    rng = np.random.default_rng(1)
    ours, plain, _ = rates(lambda: simulated(rng, 3, 1, between_seeds=0.1, between_problems=0.05, noise=0.05), 250)
    assert plain < 0.82 < 0.90 < ours


def test_of_many_comparisons_without_a_difference_rarely_any_is_shown():
    rng = np.random.default_rng(2)
    parts = {"between_seeds": 0.03, "between_problems": 0.1, "noise": 0.2}
    trials, raw, corrected = 60, 0, 0
    for _ in range(trials):
        found = [estimate(simulated(rng, 3, 1, **parts), bounds=WIDE, resamples=20).p for _ in range(10)]
        raw += min(found) < 0.05
        corrected += min(holm(found)) < 0.05
    assert corrected / trials <= 0.15 < raw / trials


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(3)
    parts = {"between_seeds": 0.02, "between_problems": 0.1, "noise": 0.2}
    found = [
        estimate([table + 0.2 for table in simulated(rng, 3, 1, **parts)], bounds=WIDE, resamples=20).p < 0.05
        for _ in range(50)
    ]
    assert sum(found) >= 45
