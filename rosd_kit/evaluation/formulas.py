"""Formulas over samples: of one problem, and of a suite, where each problem gets one score.

Pure functions, shared by evaluations, the modules for `evaluate` and the training loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from math import prod

from rosd_kit.evaluation.intervals import clustered

#: All correct answers count as one answer, however they are written.
_CORRECT = ("correct",)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the probability that at least one of `k` samples is correct.

    Source: Chen et al., arXiv 2107.03374, equation 1: `1 - C(n - c, k) / C(n, k)`, written as a product to avoid overflow.
    Raises `ValueError` unless `1 <= k <= samples` and `0 <= correct <= samples`.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} is undefined for {correct} correct of {samples} samples")
    if samples - correct < k:
        return 1.0
    return 1.0 - prod(1.0 - k / n for n in range(samples - correct + 1, samples + 1))


def majority_share(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Return 1 if the most frequent answer is correct, else 0; with `n` answers tied, a correct one among them scores `1 / n`.

    Samples without an answer (None or empty) do not vote; without votes the score is 0.
    """
    votes = Counter(answer_classes(answers, correct))
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    return float(_CORRECT in winners) / len(winners)


def answer_classes(answers: Sequence[str | None], correct: Sequence[bool]) -> list[Hashable]:
    """Return one value per sample that has an answer, equal where the answers are; all correct answers are equal."""
    pairs = zip(answers, correct, strict=True)
    return [_CORRECT if is_correct else answer for answer, is_correct in pairs if is_correct or answer]


def distinct_bigrams(texts: Sequence[Sequence[Hashable]]) -> float | None:
    """Return the share of distinct pairs among all pairs of adjacent tokens in one problem's samples.

    None if no sample has two tokens. Source: distinct-n of Li et al., arXiv 1510.03055, section 5.
    """
    pairs = [pair for text in texts for pair in pairwise(text)]
    return len(set(pairs)) / len(pairs) if pairs else None


def pass_scores(correct: Sequence[float], problems: Sequence[str], k: int) -> list[float]:
    """Return `pass_at_k` of every problem that has at least `k` samples; a sample above 0.5 is correct.

    `problems` holds each sample's problem id. Raises `ValueError` if no problem has `k` samples.
    """
    enough = [samples for samples in clustered(correct, problems).values() if len(samples) >= k]
    if not enough:
        raise ValueError(f"no problem has {k} samples")
    return [pass_at_k(len(samples), sum(value > 0.5 for value in samples), k) for samples in enough]


def majority_scores(answers: Sequence[str | None], correct: Sequence[float], problems: Sequence[str]) -> list[float]:
    """Return `majority_share` of every problem; a sample above 0.5 is correct. `problems` holds each sample's problem id."""
    by_problem = clustered(zip(answers, correct, strict=True), problems).values()
    return [majority_share([answer for answer, _ in one], [value > 0.5 for _, value in one]) for one in by_problem]


def mean_distinct_bigrams(samples: Sequence[Sequence[Hashable]], problems: Sequence[str]) -> float:
    """Return the mean of `distinct_bigrams` over the problems that have pairs; 0 if none has."""
    by_problem = [distinct_bigrams(one) for one in clustered(samples, problems).values()]
    shares = [share for share in by_problem if share is not None]
    return sum(shares) / len(shares) if shares else 0.0
