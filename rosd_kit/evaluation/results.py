"""What an evaluation found, and what changed between two of them. Knows neither tasks nor engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rosd_kit.errors import RunError
from rosd_kit.evaluation.intervals import Interval, paired_difference


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """One suite's measures.

    `mean` is mean@k in [0, 1], `low` and `high` the ends of its 95 % interval over problems; `samples` is k, the
    samples a problem; `scores` holds the share of right samples by problem id.
    """

    suite: str
    in_domain: bool
    mean: float
    low: float
    high: float
    problems: int
    samples: int
    format_rate: float
    mean_tokens: float
    scores: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values, as `from_json` takes them."""
        return asdict(self) | {"scores": dict(self.scores)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuiteResult:
        """Return the result that `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One suite before and after, on the same problems with the same seeds; `difference` is after minus before."""

    before: SuiteResult
    after: SuiteResult
    difference: Interval

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.after.suite

    @property
    def in_domain(self) -> bool:
        """Whether the suite measures the trained domain."""
        return self.after.in_domain

    @property
    def excludes_zero(self) -> bool:
        """Whether the 95 % interval of the difference leaves out zero."""
        return self.difference.excludes(0.0)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain values, without the scores of the single problems."""
        sides = {
            side: {key: value for key, value in result.to_json().items() if key != "scores"}
            for side, result in (("before", self.before), ("after", self.after))
        }
        change = asdict(self.difference) | {"excludes_zero": self.excludes_zero}
        return {"suite": self.suite, "in_domain": self.in_domain, **sides, "difference": change}


def compare(before: Sequence[SuiteResult], after: Sequence[SuiteResult], *, seed: int = 0) -> tuple[Comparison, ...]:
    """Return the paired comparison of each suite, in the order of `after`.

    Raises `RunError` when the two evaluations differ in their suites or problems: their difference would mean nothing.
    """
    earlier = {result.suite: result for result in before}
    if earlier.keys() != {result.suite for result in after}:
        raise RunError(
            f"evaluation: the suites before ({', '.join(earlier)}) are not those after "
            f"({', '.join(result.suite for result in after)}). Compare evaluations of the same task."
        )
    return tuple(_compared(earlier[result.suite], result, seed) for result in after)


def _compared(before: SuiteResult, after: SuiteResult, seed: int) -> Comparison:
    if before.scores.keys() != after.scores.keys():
        raise RunError(
            f"evaluation: suite {after.suite!r} was measured on other problems before ({before.problems}) than after "
            f"({after.problems}). Use the same evaluation.seed and evaluation.problems for both."
        )
    return Comparison(before=before, after=after, difference=paired_difference(before.scores, after.scores, seed=seed))
