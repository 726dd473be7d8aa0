"""The metric distinct-2: the diversity of a problem's samples.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Sequence, Value

from rosd_kit.evaluation.formulas import mean_distinct_bigrams


class DistinctBigrams(evaluate.Metric):
    """Share of distinct token pairs among all samples of a problem (arXiv 1510.03055), averaged over problems, in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(DistinctBigrams.__doc__),
            citation="",
            inputs_description="predictions: the token ids of each sample. references: the id of the sample's problem.",
            features=Features({"predictions": Sequence(Value("int64")), "references": Value("string")}),
        )

    def _compute(self, *, predictions: list[list[int]], references: list[str]) -> dict[str, float]:
        """Return `distinct_bigrams`; 0 if no sample has two tokens."""
        return {"distinct_bigrams": mean_distinct_bigrams(predictions, references)}
