"""Looks up and computes metrics by name. `evaluate`, which takes seconds to import, is imported on first use."""

from __future__ import annotations

import importlib
import tempfile

from rosd_kit.types import JsonObject

METRICS = {
    "mean_at_k": "MeanAtK",
    "pass_at_k": "PassAtK",
    "majority_at_k": "MajorityAtK",
    "format_rate": "FormatRate",
    "mean_tokens": "MeanTokens",
    "distinct_bigrams": "DistinctBigrams",
}
"""Metric name, also the name of its module in this folder, to class name."""


def compute(name: str, **inputs: object) -> JsonObject:
    """Return a metric's values for these inputs, in memory and offline.

    The arguments are those of the metric's `compute`: `predictions`, `references` if it takes them, and its options.
    """
    metric_class = getattr(importlib.import_module(f"rosd_kit.evaluation.{name}"), METRICS[name])
    with tempfile.TemporaryDirectory() as scratch:  # evaluate creates a cache folder even with keep_in_memory
        result: JsonObject = metric_class(keep_in_memory=True, cache_dir=scratch).compute(**inputs)
    return result
