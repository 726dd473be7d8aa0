"""The metric pass@k: how often at least one of k samples is correct, with an interval over problems.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value

from rosd_kit.evaluation.formulas import pass_scores
from rosd_kit.evaluation.intervals import RESAMPLES, bootstrap_mean
from rosd_kit.types import JsonObject


class PassAtK(evaluate.Metric):
    """Mean over problems of the unbiased estimate of pass@k (arXiv 2107.03374, equation 1), with a 95 % interval."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(PassAtK.__doc__),
            citation="",
            inputs_description="predictions: 1 for a correct sample, else 0. references: the id of the sample's problem.",
            features=Features({"predictions": Value("float64"), "references": Value("string")}),
        )

    def _compute(
        self, *, predictions: list[float], references: list[str], k: int = 1, seed: int = 0, resamples: int = RESAMPLES
    ) -> JsonObject:
        """Return `pass_at_k`, `low`, `high`, `worst_case` (see `Interval`) and the number of `problems`.

        Skips problems with fewer than `k` samples. Raises `ValueError` if none is left.
        """
        scores = pass_scores(predictions, references, k)
        interval = bootstrap_mean(scores, seed=seed, resamples=resamples)
        return interval.as_metric("pass_at_k", len(scores))
