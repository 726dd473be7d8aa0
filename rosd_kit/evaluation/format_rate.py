"""The metric format rate: the share of responses that the verifier could parse.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value


class FormatRate(evaluate.Metric):
    """Share of responses whose verdict has status `ok`, in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(FormatRate.__doc__),
            citation="",
            inputs_description="predictions: the status of each verdict.",
            features=Features({"predictions": Value("string")}),
        )

    def _compute(self, *, predictions: list[str]) -> dict[str, float]:
        """Return `format_rate`."""
        return {"format_rate": sum(status == "ok" for status in predictions) / len(predictions)}
