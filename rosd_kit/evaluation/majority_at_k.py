"""The metric majority@k: how often the most frequent of a problem's answers is right, with an interval over problems.

A module of one metric, so that `evaluate.load` takes this file's path. Needs no network.
"""

from __future__ import annotations

from typing import Any

import evaluate
from datasets import Features, Value

from rosd_kit.evaluation.formulas import majority_share
from rosd_kit.evaluation.intervals import RESAMPLES, bootstrap_mean, clustered


class MajorityAtK(evaluate.Metric):
    """Mean over problems of whether the most frequent answer is right, ties shared, with a 95 % bootstrap interval."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(MajorityAtK.__doc__),
            citation="",
            inputs_description=(
                "predictions: a sample's answer, empty where it has none, and 1 where it is right, else 0. "
                "references: the id of the sample's problem."
            ),
            features=Features(
                {"predictions": {"answer": Value("string"), "right": Value("float64")}, "references": Value("string")}
            ),
        )

    def _compute(
        self, *, predictions: list[dict[str, Any]], references: list[str], seed: int = 0, resamples: int = RESAMPLES
    ) -> dict[str, Any]:
        """Return `majority_at_k`, `low`, `high`, `worst_case` (see `Interval`) and the number of `problems`."""
        shares = [
            majority_share([one["answer"] for one in own], [one["right"] > 0.5 for one in own])
            for own in clustered(predictions, references).values()
        ]
        interval = bootstrap_mean(shares, seed=seed, resamples=resamples)
        return interval.as_metric("majority_at_k", len(shares))
