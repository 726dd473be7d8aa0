"""The results of evaluations and their comparison. Knows neither tasks nor engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from math import isfinite, nan

from pydantic import TypeAdapter, ValidationError

from rosd_kit.errors import RunError
from rosd_kit.evaluation.intervals import Interval, mean_of, paired_difference
from rosd_kit.types import JsonObject


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """The measures of one suite.

    `mean` is mean@k in [0, 1], `low` and `high` are the ends of its 95 % interval over problems, and `samples` is k, the number
    of samples per problem. `scores` maps problem ids to the share of correct samples. Samples on which the verifier failed are
    neither right nor wrong: `failed` counts them by problem id, and a problem without other samples has no score. `mean` is NaN
    if no problem has a score.

    `pass_at` maps j to pass@j. `majority` is majority@k, None if the verifier does not report answers. `bigrams` is distinct-2
    in [0, 1], `entropy` the mean of -log p of the sampled tokens in nats, `leaks` the share of samples that mention a
    reference, and `truncated` the number of samples that were cut off at the length limit. These are None in
    evaluations written before they were measured. `traits` are the means of the task's traits of responses, by name.
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
    failed: Mapping[str, int] = field(default_factory=dict)
    pass_at: Mapping[str, Interval] = field(default_factory=dict)
    majority: Interval | None = None
    bigrams: float | None = None
    entropy: float | None = None
    leaks: float | None = None
    truncated: int | None = None
    traits: Mapping[str, float] = field(default_factory=dict)

    @property
    def interval(self) -> Interval:
        """mean@k with its interval."""
        equal = len(set(self.scores.values())) <= 1
        return Interval(mean=self.mean, low=self.low, high=self.high, worst_case=equal)

    @property
    def errors(self) -> int:
        """The number of samples on which the verifier failed."""
        return sum(self.failed.values())

    @property
    def asked(self) -> set[str]:
        """The ids of all problems, judged or not."""
        return {*self.scores, *self.failed}

    def to_json(self) -> JsonObject:
        """Return the result as plain values, for `from_json`."""
        return asdict(self) | {"scores": dict(self.scores), "traits": dict(self.traits)}

    @classmethod
    def from_json(cls, value: JsonObject) -> SuiteResult:
        """Return the result that `to_json` wrote; ignores fields that a later version added. Raises `ValueError` for others."""
        names = {one.name for one in fields(cls)}
        known = {name: content for name, content in value.items() if name in names}
        known["majority"] = known.get("majority") or None
        for name in ("mean", "low", "high", "format_rate"):
            known[name] = nan if known[name] is None else known[name]
        try:
            result = _shape().validate_python(known)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if not all(map(isfinite, result.scores.values())):
            raise ValueError("a score is not finite")
        return result


@cache
def _shape() -> TypeAdapter[SuiteResult]:
    return TypeAdapter(SuiteResult)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One suite in two evaluations with the same problems and seeds; `difference` is after minus before."""

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
        """Whether the 95 % interval of the difference excludes zero."""
        return self.difference.excludes(0.0)

    def to_json(self) -> JsonObject:
        """Return the comparison as plain values, without the scores of single problems."""
        sides = {
            side: {key: value for key, value in result.to_json().items() if key != "scores"}
            for side, result in (("before", self.before), ("after", self.after))
        }
        change = asdict(self.difference) | {"excludes_zero": self.excludes_zero}
        return {"suite": self.suite, "in_domain": self.in_domain, **sides, "difference": change}


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of a comparison table: a suite before and after, or a mean over suites if `average` is set."""

    name: str
    before: Interval
    after: Interval
    change: Interval
    in_domain: bool = False
    average: bool = False


def comparison_rows(comparisons: Sequence[Comparison]) -> list[ComparisonRow]:
    """Return a row for each suite, then one for each of their averages (see `suite_averages`)."""
    rows = [
        ComparisonRow(
            name=c.suite, in_domain=c.in_domain, before=c.before.interval, after=c.after.interval, change=c.difference
        )
        for c in comparisons
    ]
    before = suite_averages([(row.in_domain, row.before) for row in rows])
    after = suite_averages([(row.in_domain, row.after) for row in rows])
    change = suite_averages([(row.in_domain, row.change) for row in rows])
    return rows + [ComparisonRow(name=n, before=before[n], after=after[n], change=change[n], average=True) for n in before]


def suite_averages(suites: Sequence[tuple[bool, Interval]]) -> dict[str, Interval]:
    """Return the means over the trained, the other and all suites; each suite is (is it trained, its interval).

    Omits a mean over fewer than two suites, and one that would repeat the mean over all suites.
    """
    groups = {
        "trained suites": [interval for trained, interval in suites if trained],
        "other suites": [interval for trained, interval in suites if not trained],
        "all suites": [interval for _, interval in suites],
    }
    return {
        name: mean_of(intervals)
        for name, intervals in groups.items()
        if len(intervals) > 1 and (len(intervals) < len(suites) or name == "all suites")
    }


def compare(before: Sequence[SuiteResult], after: Sequence[SuiteResult], *, seed: int = 0) -> tuple[Comparison, ...]:
    """Return the paired comparison of each suite, in the order of `after`.

    Problems without a score on either side are left out. Raises `RunError` if the evaluations differ in their suites or
    problems.
    """
    before_by_suite = {result.suite: result for result in before}
    if before_by_suite.keys() != {result.suite for result in after}:
        raise RunError(
            f"evaluation: the suites before ({', '.join(before_by_suite)}) differ from those after "
            f"({', '.join(result.suite for result in after)}). Compare evaluations of the same task."
        )
    return tuple(_compare_suite(before_by_suite[result.suite], result, seed) for result in after)


def _compare_suite(before: SuiteResult, after: SuiteResult, seed: int) -> Comparison:
    if before.asked != after.asked:
        raise RunError(
            f"evaluation: suite {after.suite!r} was evaluated on different problems before ({before.problems}) and after "
            f"({after.problems}). Use the same evaluation.seed and evaluation.problems for both."
        )
    common = before.scores.keys() & after.scores.keys()
    if not common:
        raise RunError(
            f"evaluation: no problem of suite {after.suite!r} was judged in both evaluations. Look at the verifier's errors."
        )
    paired = ({id: score for id, score in result.scores.items() if id in common} for result in (before, after))
    return Comparison(before=before, after=after, difference=paired_difference(*paired, seed=seed))
