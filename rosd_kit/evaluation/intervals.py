"""Bootstrap intervals over problems.

The samples of one problem are not independent, so the problem is what gets resampled: callers first reduce each
problem to one number. Knows nothing of suites, metrics or where the numbers come from.

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
_DRAWS_AT_ONCE = 1_000_000
T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the two ends of its confidence interval, all in the unit of the values.

    `worst_case` says that all values were equal, so that the ends are bounds on what may have been missed, not estimates.
    """

    mean: float
    low: float
    high: float
    worst_case: bool = False

    def as_metric(self, name: str, problems: int) -> dict[str, float | int | bool]:
        """Return the interval as a metric's result: its mean under `name`, its ends, and of how many problems it is."""
        ends = {"low": self.low, "high": self.high, "worst_case": self.worst_case}
        return {name: self.mean, **ends, "problems": problems}

    def excludes(self, value: float) -> bool:
        """Return whether the value lies outside the interval; an end counts as inside."""
        return not self.low <= value <= self.high


def clustered(values: Iterable[T], clusters: Iterable[Key]) -> dict[Key, list[T]]:
    """Return the values of each cluster, both in order of first appearance."""
    members: dict[Key, list[T]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    return members


def cluster_means(values: Iterable[float], clusters: Iterable[Key]) -> dict[Key, float]:
    """Return the mean of the values of each cluster, in order of first appearance."""
    return {cluster: sum(own) / len(own) for cluster, own in clustered(map(float, values), clusters).items()}


def mean_of(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean of independent means, such as those of several suites, with its interval.

    The distances to the ends add up in squares, each side for itself, so that an interval keeps its slant. Raises `ValueError`
    without any interval. Source: MOVER, Zou & Donner, Statistics in Medicine 27 (2008).
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
    """Return the mean of the scores, one a problem, with its percentile bootstrap interval.

    The same scores and seed give the same interval. `bounds` are the least and greatest score possible; they matter
    only where all scores are equal (see `_agreement`). With fewer than about 20 problems the interval is somewhat too
    narrow, as percentile intervals are. Raises `ValueError` without any score or with one that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one score, all of them finite")
    if np.all(values == values[0]):
        return _agreement(float(values[0]), values.size, level, bounds)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(_resampled_means(values, seed, resamples), tails)
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of after minus before over the same problems, with its interval; scores are in [0, 1].

    Pairing takes the differences between problems out of the interval. Raises `ValueError` when the two do not hold
    the same problems.
    """
    if before.keys() != after.keys():
        raise ValueError("a paired difference needs the same problems on both sides")
    differences = [after[problem] - before[problem] for problem in before]
    return bootstrap_mean(differences, seed=seed, resamples=resamples, bounds=(-1.0, 1.0))


def _resampled_means(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return `[resamples]` means of draws with replacement, drawn in blocks so that memory stays bounded."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // values.size)
    blocks = [
        values[rng.integers(0, values.size, size=(min(rows, resamples - done), values.size))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    return np.concatenate(blocks)


def _agreement(score: float, problems: int, level: float, bounds: tuple[float, float]) -> Interval:
    """Return the interval for scores that are all equal, where resampling would claim to be certain.

    With probability `level` at most a share `1 - ((1 - level) / 2) ** (1 / n)` of all problems would score otherwise
    (Clopper & Pearson, Biometrika 26, 1934, for 0 of n); in the worst case those lie at a bound.
    """
    unseen = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / problems)
    least, greatest = bounds
    low, high = score - unseen * (score - least), score + unseen * (greatest - score)
    return Interval(mean=score, low=low, high=high, worst_case=True)
