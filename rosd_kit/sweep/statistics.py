"""Means and paired differences over seeds and problems, with intervals that count both as drawn by chance.

Every seed is measured on the same problems, so scores form a table `[seeds, problems]` in which neither rows nor columns are
independent. The variance of its mean has a part for seeds and a part for problems; with few seeds the first is known badly,
and the t distribution with Hillis's degrees of freedom says how badly. Suites are fixed: problems are drawn within theirs.

* The interval is a bootstrap that draws seeds and problems (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1,
  2007), with its spread set to the unbiased estimate and widened by t over normal quantiles. Without that, three seeds give
  intervals that hold the truth far less often than they claim; docs/sweeps.md has the figures.
* The p-value is the t-test with the same variance and degrees (Hillis, Statistics in Medicine 26, 2007: readers and cases are
  our seeds and problems).
* Holm's procedure (Scandinavian Journal of Statistics 6, 1979) corrects for how many differences are looked at.

Knows arrays; nothing of sweeps.
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
_DRAWS_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and problems with its 95 % interval, and the p-value of its being 0.

    `seeds` is how many runs stand behind it; with one, chance between runs is in neither interval nor p-value.
    """

    interval: Interval
    p: float
    seeds: int

    @property
    def mean(self) -> float:
        """The mean."""
        return self.interval.mean


@dataclass(frozen=True)
class _Spread:
    """The variance of the mean that comes from seeds and from problems, and the degrees of freedom of their sum."""

    seeds: float
    problems: float
    degrees: float

    @property
    def error(self) -> float:
        return math.sqrt(self.seeds + self.problems)


def estimate(
    suites: Sequence[Scores],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Estimate:
    """Return the mean of the suites' means with interval and p-value; each suite is `[seeds, problems]`, seeds alike in all.

    For a difference give the differences, with `bounds=(-1, 1)`; `bounds` matter only where all scores of every suite are
    equal. Raises `ValueError` for no suite, empty ones, different numbers of seeds, or what is not finite.
    """
    tables = [np.asarray(suite, dtype=np.float64) for suite in suites]
    if not tables or any(table.ndim != 2 or table.size == 0 or not np.isfinite(table).all() for table in tables):
        raise ValueError("an estimate needs at least one table [seeds, problems], all of it finite")
    if len({len(table) for table in tables}) > 1:
        raise ValueError("the suites of an estimate need the same seeds")
    mean = float(np.mean([table.mean() for table in tables]))
    seeds = len(tables[0])
    spread = _spread(tables)
    if spread.error < 1e-12:
        problems = [float(table.mean()) for table in tables for _ in range(table.shape[1])]
        flat = bootstrap_mean([mean] * len(problems), bounds=bounds, level=level)
        return Estimate(interval=flat, p=_p_of_agreement(mean, len(problems), bounds), seeds=seeds)
    low, high = _interval(tables, mean, spread, seed, resamples, level)
    return Estimate(
        interval=Interval(mean=mean, low=max(low, bounds[0]), high=min(high, bounds[1])), p=_p(mean, spread), seeds=seeds
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order of the given ones."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def _spread(tables: Sequence[NDArray[np.float64]]) -> _Spread:
    """Return the unbiased variance of the mean, in the parts that seeds and problems have in it."""
    seeds, count = len(tables[0]), len(tables)
    of_problems = _between_problems(tables) / count**2
    if seeds == 1:
        return _Spread(0.0, of_problems, float(sum(table.shape[1] - 1 for table in tables)))
    rest = sum(_residual_variance(table) / table.size for table in tables) / count**2
    of_seeds = max(float(np.var(_seed_means(tables), ddof=1)) / seeds, rest)  # which is the least that it can be on average
    of_problems = max(of_problems - rest, 0.0)
    degrees = (seeds - 1) * ((of_seeds + of_problems) / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return _Spread(of_seeds, of_problems, degrees)


def _between_problems(tables: Sequence[NDArray[np.float64]]) -> float:
    return float(sum(np.var(t.mean(axis=0), ddof=1) / t.shape[1] for t in tables if t.shape[1] > 1))


def _residual_variance(table: NDArray[np.float64]) -> float:
    """Return the variance of what neither the seed nor the problem explains; 0 where nothing is left to tell it."""
    free = (table.shape[0] - 1) * (table.shape[1] - 1)
    rest = table - table.mean(axis=0, keepdims=True) - table.mean(axis=1, keepdims=True) + table.mean()
    return float((rest**2).sum() / free) if free else 0.0


def _seed_means(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean([table.mean(axis=1) for table in tables], axis=0)
    return means


def _interval(
    tables: Sequence[NDArray[np.float64]], mean: float, spread: _Spread, seed: int, resamples: int, level: float
) -> tuple[float, float]:
    """Return the quantiles of the bootstrap, its spread set to the unbiased one and widened for few seeds."""
    from scipy.stats import norm, t

    drawn = resampled_means(tables, seed, resamples) - mean
    deviation = float(drawn.std())
    tail = (1 + level) / 2
    wider = spread.error / deviation * (t.ppf(tail, spread.degrees) / norm.ppf(tail)) if deviation > 0 else 0.0
    low, high = np.quantile(drawn, [1 - tail, tail]) * wider
    return mean + float(low), mean + float(high)


def resampled_means(tables: Sequence[NDArray[np.float64]], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return `[resamples]` means of tables whose seeds (the same in all suites) and problems are drawn with replacement."""
    rng = np.random.default_rng(seed)
    seeds, means = len(tables[0]), []
    for begin in range(0, resamples, _DRAWS_AT_ONCE):
        draws = min(_DRAWS_AT_ONCE, resamples - begin)
        rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        found = np.zeros(draws)
        for table in tables:
            problems = table.shape[1]
            columns = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws) / problems
            found += np.einsum("ds,sp,dp->d", rows, table, columns, optimize=True) / len(tables)
        means.append(found)
    return np.concatenate(means)


def _p_of_agreement(mean: float, problems: int, bounds: tuple[float, float]) -> float:
    """Return at which level the interval of scores that are all equal (`bootstrap_mean`) would end at 0."""
    other = abs(bounds[0] if mean > 0 else bounds[1])
    return 1.0 if mean == 0 else min(1.0, 2.0 * (other / (abs(mean) + other)) ** problems)


def _p(mean: float, spread: _Spread) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(mean) / spread.error, spread.degrees))
