"""What the store keeps as JSON: plans, and the results of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from rosd_kit.types import JsonObject


class EvaluationRecord(TypedDict):
    """A line of evaluations.jsonl: the results of all suites after a number of steps, as `SuiteResult.to_json` writes them."""

    step: int
    results: list[JsonObject]


class TrialResult(TypedDict):
    """What a finished trial leaves in the store: its evaluations, seconds and warnings.

    `resumed` says whether another process had begun it, so that `seconds` are not the whole time. `made_with` holds versions,
    device and a digest of the source code. `training` is the mean of each metric over the steps that have it; earlier versions
    did not write it.
    """

    evaluations: list[EvaluationRecord]
    resumed: bool
    made_with: dict[str, object]
    warnings: list[str]
    seconds: float
    training: NotRequired[dict[str, float]]


class StoredCombination(TypedDict):
    """A combination of a plan: its label on each axis, its steps, and notes on how it was resolved."""

    labels: list[str]
    steps: int
    notes: Sequence[str]


class StoredTrial(TypedDict):
    """A trial of a plan; `cell` is the index of its combination."""

    id: str
    cell: int
    seed: int


class StoredPlan(TypedDict):
    """A plan as the store keeps it; `cells` are the combinations."""

    name: str
    recipe: str
    profile: str | None
    fixed: list[str]
    design: dict[str, object]
    axes: list[str]
    cells: list[StoredCombination]
    trials: list[StoredTrial]
    skipped: list[dict[str, object]]
