"""What is computed of the samples of one problem. Pure functions; the metrics and the training loop share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from math import prod

#: All right answers are one answer, however they are written.
_RIGHT = ("right",)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of `k` samples is right, given `right` of `samples`.

    Source: Chen et al., arXiv 2107.03374, equation 1: `1 - C(n - c, k) / C(n, k)`, as a product so that nothing overflows.
    Raises `ValueError` unless `1 <= k <= samples` and `0 <= right <= samples`.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} cannot be told from {right} right ones of {samples} samples")
    if samples - right < k:
        return 1.0
    return 1.0 - prod(1.0 - k / n for n in range(samples - right + 1, samples + 1))


def majority_share(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Return 1 where the most frequent answer is right, else 0; of `n` answers that tie each counts `1 / n`.

    Samples without an answer (None or empty) have no vote; without any vote nothing is right.
    """
    votes = Counter(answer_classes(answers, right))
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    return float(_RIGHT in winners) / len(winners)


def answer_classes(answers: Sequence[str | None], right: Sequence[bool]) -> list[Hashable]:
    """Return what was answered, one a sample that has an answer; all right answers are the same."""
    pairs = zip(answers, right, strict=True)
    return [_RIGHT if good else answer for answer, good in pairs if good or answer]


def distinct_bigrams(texts: Sequence[Sequence[Hashable]]) -> float | None:
    """Return how many different pairs of neighbouring tokens there are a pair, over the samples of one problem.

    None where no sample has two tokens. Source: distinct-n of Li et al., arXiv 1510.03055, section 5.
    """
    pairs = [pair for text in texts for pair in pairwise(text)]
    return len(set(pairs)) / len(pairs) if pairs else None
