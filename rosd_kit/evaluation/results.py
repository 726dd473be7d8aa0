"""What an evaluation found, and what changed between two of them. Knows neither tasks nor engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import nan
from typing import Any

from rosd_kit.errors import RunError
from rosd_kit.evaluation.intervals import Interval, mean_of, paired_difference


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """One suite's measures.

    `mean` is mean@k in [0, 1], `low` and `high` the ends of its 95 % interval over problems; `samples` is k, the
    samples a problem; `scores` holds the share of right samples by problem id. Samples whose verifier failed are neither right
    nor wrong: `failed` counts them by problem, and a problem without any other sample has no score. `mean` is NaN where
    no problem has one.

    `pass_at` holds pass@j by j; `majority` is majority@k, None where the verifier does not say what was answered;
    `bigrams` is distinct-2 in [0, 1], `entropy` the mean of -log p of the sampled tokens in nats, `leaks` the share of
    samples that speak of a reference. These are None in evaluations written before they were measured.
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

    @property
    def interval(self) -> Interval:
        """mean@k with its interval."""
        equal = len(set(self.scores.values())) <= 1
        return Interval(mean=self.mean, low=self.low, high=self.high, worst_case=equal)

    @property
    def errors(self) -> int:
        """How many samples the verifier failed to judge."""
        return sum(self.failed.values())

    @property
    def asked(self) -> set[str]:
        """The ids of all problems, judged or not."""
        return {*self.scores, *self.failed}

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values, as `from_json` takes them."""
        return asdict(self) | {"scores": dict(self.scores)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuiteResult:
        """Return the result that `to_json` wrote; what later versions may add is left out."""
        known = {one.name for one in fields(cls)}
        own = {name: part for name, part in value.items() if name in known}
        own["pass_at"] = {k: Interval(**one) for k, one in own.get("pass_at", {}).items()}
        own["majority"] = Interval(**own["majority"]) if own.get("majority") else None
        return cls(**own | {name: nan if own[name] is None else own[name] for name in ("mean", "low", "high", "format_rate")})


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


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A line of a table that compares: a suite, or with `average` a mean over suites, before and after."""

    name: str
    before: Interval
    after: Interval
    change: Interval
    in_domain: bool = False
    average: bool = False


def differences(comparisons: Sequence[Comparison]) -> list[Difference]:
    """Return a line for each suite, and one for each mean over suites that says something new."""
    lines = [
        Difference(name=c.suite, in_domain=c.in_domain, before=c.before.interval, after=c.after.interval, change=c.difference)
        for c in comparisons
    ]
    before, after, change = (
        averages([(line.in_domain, side) for line, side in zip(lines, sides, strict=True)])
        for sides in ([one.before for one in lines], [one.after for one in lines], [one.change for one in lines])
    )
    return lines + [Difference(name=n, before=before[n], after=after[n], change=change[n], average=True) for n in before]


def averages(measured: Sequence[tuple[bool, Interval]]) -> dict[str, Interval]:
    """Return the means over suites, each given with whether it is in domain: trained, other, all; only where two or more."""
    kinds = {
        "trained suites": [interval for trained, interval in measured if trained],
        "other suites": [interval for trained, interval in measured if not trained],
        "all suites": [interval for _, interval in measured],
    }
    whole = len(measured)
    return {
        name: mean_of(found) for name, found in kinds.items() if len(found) > 1 and (len(found) < whole or name == "all suites")
    }


def compare(before: Sequence[SuiteResult], after: Sequence[SuiteResult], *, seed: int = 0) -> tuple[Comparison, ...]:
    """Return the paired comparison of each suite, in the order of `after`.

    Problems that a verifier failed to judge on either side are left out. Raises `RunError` when the two evaluations differ in
    their suites or problems: their difference would mean nothing.
    """
    earlier = {result.suite: result for result in before}
    if earlier.keys() != {result.suite for result in after}:
        raise RunError(
            f"evaluation: the suites before ({', '.join(earlier)}) are not those after "
            f"({', '.join(result.suite for result in after)}). Compare evaluations of the same task."
        )
    return tuple(_compared(earlier[result.suite], result, seed) for result in after)


def _compared(before: SuiteResult, after: SuiteResult, seed: int) -> Comparison:
    if before.asked != after.asked:
        raise RunError(
            f"evaluation: suite {after.suite!r} was measured on other problems before ({before.problems}) than after "
            f"({after.problems}). Use the same evaluation.seed and evaluation.problems for both."
        )
    both = before.scores.keys() & after.scores.keys()
    if not both:
        raise RunError(
            f"evaluation: the verifier judged no problem of suite {after.suite!r} on both sides. Look at its errors."
        )
    earlier, later = ({id: score for id, score in one.scores.items() if id in both} for one in (before, after))
    return Comparison(before=before, after=after, difference=paired_difference(earlier, later, seed=seed))
