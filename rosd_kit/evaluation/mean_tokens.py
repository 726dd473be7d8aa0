"""The metric mean length: how many tokens a response has.

A module of one metric, so that `evaluate.load` takes this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value


class MeanTokens(evaluate.Metric):
    """Mean number of sampled tokens a response, the end token included."""

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
