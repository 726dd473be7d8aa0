"""The metrics by name. Importing this module is cheap: `evaluate`, which takes seconds, is imported on first use."""

from __future__ import annotations

import importlib
import tempfile
from typing import Any

METRICS = {
    "mean_at_k": "MeanAtK",
    "pass_at_k": "PassAtK",
    "majority_at_k": "MajorityAtK",
    "format_rate": "FormatRate",
    "mean_tokens": "MeanTokens",
    "distinct_bigrams": "DistinctBigrams",
}
"""Metric name, which is also its module's name in this folder, to class name."""


def compute(name: str, **inputs: Any) -> dict[str, Any]:
    """Return what the metric says about the inputs; everything stays in memory and offline.

    The arguments are those of the metric's `compute`: `predictions`, `references` where it has them, and its options.
    """
    metric_class = getattr(importlib.import_module(f"rosd_kit.evaluation.{name}"), METRICS[name])
    with tempfile.TemporaryDirectory() as scratch:  # evaluate makes a cache folder even when it keeps all in memory
        result: dict[str, Any] = metric_class(keep_in_memory=True, cache_dir=scratch).compute(**inputs)
    return result
