"""The metric mean tokens: the average length of a response.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value


class MeanTokens(evaluate.Metric):
    """Mean number of sampled tokens per response, including the end token."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(MeanTokens.__doc__),
            citation="",
            inputs_description="predictions: the number of tokens of each response.",
            features=Features({"predictions": Value("int64")}),
        )

    def _compute(self, *, predictions: list[int]) -> dict[str, float]:
        """Return `mean_tokens`."""
        return {"mean_tokens": sum(predictions) / len(predictions)}
