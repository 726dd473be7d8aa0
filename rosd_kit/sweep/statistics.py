"""Means and paired differences over seeds and problems, with intervals that treat both as random samples.

Every seed is evaluated on the same problems, so scores form a table `[seeds, problems]` in which neither rows nor columns are
independent. The variance of the mean has a seed component and a problem component. With few seeds the seed component is
uncertain; the t distribution with Hillis's degrees of freedom accounts for that. Suites are fixed, not sampled.

* The interval is a bootstrap over seeds and problems (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007),
  rescaled to the unbiased standard error and widened by the ratio of t to normal quantiles. Without that, intervals from three
  seeds cover the true value far less often than they claim; docs/sweeps.md has the figures.
* The p-value is a t-test with the same variance and degrees of freedom (Hillis, Statistics in Medicine 26, 2007: readers and
  cases are our seeds and problems).
* Holm's procedure (Scandinavian Journal of Statistics 6, 1979) corrects for the number of comparisons.

Knows arrays only, nothing about sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from rosd_kit.evaluation.intervals import LEVEL, RESAMPLES, Interval, bootstrap_mean

Scores = Float[np.ndarray, "seeds problems"]
_BLOCK = 200


@dataclass(frozen=True, kw_only=True)
class MeanWithInterval:
    """A mean over seeds and problems, its 95 % interval, and the p-value of the hypothesis that the true mean is 0.

    With one seed, neither the interval nor the p-value includes the variation between runs.
    """

    interval: Interval
    p_value: float
    seeds: int

    @property
    def mean(self) -> float:
        """The mean."""
        return self.interval.mean


@dataclass(frozen=True)
class _Variance:
    """The variance of a mean: its seed component, its problem component, and the degrees of freedom of their sum."""

    seeds: float
    problems: float
    degrees_of_freedom: float

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.seeds + self.problems)


def mean_with_interval(
    suites: Sequence[Scores],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> MeanWithInterval:
    """Return the mean of the suites' means with its interval and p-value.

    Each suite is `[seeds, problems]`, with the same seeds in all of them. For a paired difference, pass the differences and
    `bounds=(-1, 1)`; apart from clipping the interval, `bounds` matter only where all scores of every suite are equal.

    Raises `ValueError` for no suite, an empty suite, different numbers of seeds, or a score that is not finite.
    """
    tables = [np.asarray(suite, dtype=np.float64) for suite in suites]
    if not tables or any(table.ndim != 2 or table.size == 0 or not np.isfinite(table).all() for table in tables):
        raise ValueError("suites: need at least one table [seeds, problems], and every score must be finite")
    if len({len(table) for table in tables}) > 1:
        raise ValueError("suites: all suites need the same number of seeds")
    mean = float(np.mean([table.mean() for table in tables]))
    seeds = len(tables[0])
    variance = _variance(tables)
    if variance.standard_error < 1e-12:
        problems = sum(table.shape[1] for table in tables)
        interval = bootstrap_mean([mean] * problems, bounds=bounds, level=level)
        return MeanWithInterval(interval=interval, p_value=_p_value_of_equal_scores(mean, problems, bounds), seeds=seeds)
    low, high = _interval(tables, mean, variance, seed, resamples, level)
    interval = Interval(mean=mean, low=max(low, bounds[0]), high=min(high, bounds[1]))
    return MeanWithInterval(interval=interval, p_value=_p_value(mean, variance), seeds=seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the given order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _variance(tables: Sequence[NDArray[np.float64]]) -> _Variance:
    """Return the unbiased variance of the mean, split into its seed and problem components."""
    seeds, count = len(tables[0]), len(tables)
    of_problems = _problem_variance(tables) / count**2
    if seeds == 1:
        return _Variance(0.0, of_problems, float(sum(table.shape[1] - 1 for table in tables)))
    residual = sum(_residual_variance(table) / table.size for table in tables) / count**2
    # The variance between seed means contains the residual, so a smaller value can only be chance.
    of_seeds = max(float(np.var(_seed_means(tables), ddof=1)) / seeds, residual)
    of_problems = max(of_problems - residual, 0.0)
    degrees = (seeds - 1) * ((of_seeds + of_problems) / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return _Variance(of_seeds, of_problems, degrees)


def _problem_variance(tables: Sequence[NDArray[np.float64]]) -> float:
    return float(sum(np.var(t.mean(axis=0), ddof=1) / t.shape[1] for t in tables if t.shape[1] > 1))


def _residual_variance(table: NDArray[np.float64]) -> float:
    """Return the variance that neither the seed nor the problem explains; 0 without degrees of freedom for it."""
    degrees = (table.shape[0] - 1) * (table.shape[1] - 1)
    residuals = table - table.mean(axis=0, keepdims=True) - table.mean(axis=1, keepdims=True) + table.mean()
    return float((residuals**2).sum() / degrees) if degrees else 0.0


def _seed_means(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean([table.mean(axis=1) for table in tables], axis=0)
    return means


def _interval(
    tables: Sequence[NDArray[np.float64]], mean: float, variance: _Variance, seed: int, resamples: int, level: float
) -> tuple[float, float]:
    """Return the bootstrap quantiles, rescaled to the unbiased standard error and widened for few seeds."""
    from scipy.stats import norm, t

    deviations = resampled_means(tables, seed, resamples) - mean
    spread = float(deviations.std())
    tail = (1 + level) / 2
    widening = t.ppf(tail, variance.degrees_of_freedom) / norm.ppf(tail)
    scale = variance.standard_error / spread * widening if spread > 0 else 0.0
    low, high = np.quantile(deviations, [1 - tail, tail]) * scale
    return mean + float(low), mean + float(high)


def resampled_means(tables: Sequence[NDArray[np.float64]], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return `[resamples]` means, resampling seeds (the same in all suites) and problems with replacement."""
    rng = np.random.default_rng(seed)
    seeds, blocks = len(tables[0]), []
    for start in range(0, resamples, _BLOCK):
        draws = min(_BLOCK, resamples - start)
        seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        means = np.zeros(draws)
        for table in tables:
            problems = table.shape[1]
            problem_weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws) / problems
            means += np.einsum("ds,sp,dp->d", seed_weights, table, problem_weights, optimize=True) / len(tables)
        blocks.append(means)
    return np.concatenate(blocks)


def _p_value_of_equal_scores(mean: float, problems: int, bounds: tuple[float, float]) -> float:
    """Return the level at which the interval of equal scores (see `bootstrap_mean`) would end at 0."""
    other = abs(bounds[0] if mean > 0 else bounds[1])
    return 1.0 if mean == 0 else min(1.0, 2.0 * (other / (abs(mean) + other)) ** problems)


def _p_value(mean: float, variance: _Variance) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(mean) / variance.standard_error, variance.degrees_of_freedom))
