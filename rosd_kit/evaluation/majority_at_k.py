"""The metric majority@k: how often a problem's most frequent answer is correct, with an interval over problems.

Contains one metric only, so that `evaluate.load` accepts this file's path. Needs no network.
"""

from __future__ import annotations

import evaluate
from datasets import Features, Value

from rosd_kit.evaluation.formulas import majority_scores
from rosd_kit.evaluation.intervals import RESAMPLES, bootstrap_mean
from rosd_kit.types import JsonObject


class MajorityAtK(evaluate.Metric):
    """Share of problems whose most frequent answer is correct, ties split, with a 95 % bootstrap interval."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(MajorityAtK.__doc__),
            citation="",
            inputs_description=(
                "predictions: each sample's answer, empty if it has none, and 1 if it is correct, else 0. "
                "references: the id of the sample's problem."
            ),
            features=Features(
                {"predictions": {"answer": Value("string"), "right": Value("float64")}, "references": Value("string")}
            ),
        )

    def _compute(
        self, *, predictions: list[JsonObject], references: list[str], seed: int = 0, resamples: int = RESAMPLES
    ) -> JsonObject:
        """Return `majority_at_k`, `low`, `high`, `worst_case` (see `Interval`) and the number of `problems`."""
        answers, correct = [sample["answer"] for sample in predictions], [sample["right"] for sample in predictions]
        scores = majority_scores(answers, correct, references)
        interval = bootstrap_mean(scores, seed=seed, resamples=resamples)
        return interval.as_metric("majority_at_k", len(scores))
