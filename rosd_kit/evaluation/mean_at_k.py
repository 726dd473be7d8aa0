"""The metric mean@k: accuracy averaged over k samples per problem, with an interval over problems.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value

from rosd_kit.evaluation.intervals import RESAMPLES, bootstrap_mean, cluster_means
from rosd_kit.types import JsonObject


class MeanAtK(evaluate.Metric):
    """Share of correct samples per problem, averaged over problems, in [0, 1], with a 95 % bootstrap interval."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(MeanAtK.__doc__),
            citation="",
            inputs_description="predictions: 1 for a correct sample, else 0. references: the id of the sample's problem.",
            features=Features({"predictions": Value("float64"), "references": Value("string")}),
        )

    def _compute(
        self, *, predictions: list[float], references: list[str], seed: int = 0, resamples: int = RESAMPLES
    ) -> JsonObject:
        """Return `mean_at_k`, `low`, `high`, `worst_case` (see `Interval`) and the number of `problems`."""
        scores = cluster_means(predictions, references)
        interval = bootstrap_mean(list(scores.values()), seed=seed, resamples=resamples)
        return interval.as_metric("mean_at_k", len(scores))
