"""Bootstrap confidence intervals over problems.

The samples of one problem are not independent, so problems are resampled, not samples: callers first reduce each problem to
one number. Does not know suites, metrics or where the numbers come from.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
_MAX_BLOCK = 1_000_000
T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the two ends of its confidence interval, in the unit of the values.

    `worst_case` is true if all values were equal; the ends are then worst-case bounds instead of estimates.
    """

    mean: float
    low: float
    high: float
    worst_case: bool = False

    def as_metric(self, name: str, problems: int) -> dict[str, float | int | bool]:
        """Return the interval as a metric's result: the mean under `name`, the ends and the number of problems."""
        ends = {"low": self.low, "high": self.high, "worst_case": self.worst_case}
        return {name: self.mean, **ends, "problems": problems}

    def excludes(self, value: float) -> bool:
        """Return whether the value lies outside the interval; the ends are inside."""
        return not self.low <= value <= self.high


def clustered(values: Iterable[T], clusters: Iterable[Key]) -> dict[Key, list[T]]:
    """Group values by cluster; clusters are in order of first appearance."""
    by_cluster: dict[Key, list[T]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(value)
    return by_cluster


def cluster_means(values: Iterable[float], clusters: Iterable[Key]) -> dict[Key, float]:
    """Return the mean of each cluster; clusters are in order of first appearance."""
    return {cluster: sum(members) / len(members) for cluster, members in clustered(map(float, values), clusters).items()}


def mean_of(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean of independent means, for example of several suites, with its interval.

    The squared distances to the ends add up, separately on each side, so asymmetry is preserved. Raises `ValueError` without
    intervals. Source: MOVER, Zou & Donner, Statistics in Medicine 27 (2008).
    """
    if not intervals:
        raise ValueError("a mean needs at least one interval")
    count = len(intervals)
    mean = sum(one.mean for one in intervals) / count
    return Interval(
        mean=mean,
        low=mean - hypot(*(one.mean - one.low for one in intervals)) / count,
        high=mean + hypot(*(one.high - one.mean for one in intervals)) / count,
        worst_case=any(one.worst_case for one in intervals),
    )


def bootstrap_mean(
    scores: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Return the mean of the scores, one per problem, with its percentile bootstrap interval.

    The same scores and seed give the same interval. `bounds` are the lowest and highest possible score; they matter only if
    all scores are equal (see `_equal_scores_interval`). With fewer than about 20 problems the interval is slightly too
    narrow, as percentile intervals are. Raises `ValueError` without scores or with a score that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one score, all of them finite")
    if np.all(values == values[0]):
        return _equal_scores_interval(float(values[0]), values.size, level, bounds)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(_resampled_means(values, seed, resamples), tails)
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of after minus before, paired by problem, with its interval; scores are in [0, 1].

    Pairing removes the variation between problems from the interval. Raises `ValueError` if the problems differ.
    """
    if before.keys() != after.keys():
        raise ValueError("a paired difference needs the same problems on both sides")
    differences = [after[problem] - before[problem] for problem in before]
    return bootstrap_mean(differences, seed=seed, resamples=resamples, bounds=(-1.0, 1.0))


def _resampled_means(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return `[resamples]` means of resampled values, computed in blocks to bound memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _MAX_BLOCK // values.size)
    blocks = [
        values[rng.integers(0, values.size, size=(min(rows, resamples - done), values.size))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    return np.concatenate(blocks)


def _equal_scores_interval(score: float, problems: int, level: float, bounds: tuple[float, float]) -> Interval:
    """Return the worst-case interval of scores that are all equal, for which a bootstrap interval would have no width.

    With probability `level`, at most a share `1 - ((1 - level) / 2) ** (1 / n)` of all problems would score differently
    (Clopper & Pearson, Biometrika 26, 1934, for 0 of n); in the worst case they score at a bound.
    """
    different = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / problems)
    lowest, highest = bounds
    low, high = score - different * (score - lowest), score + different * (highest - score)
    return Interval(mean=score, low=low, high=high, worst_case=True)
