"""Sums up token tables by region. Pure arithmetic: knows no model and no component."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rosd_kit.diagnose.scoring import TokenTable
from rosd_kit.diagnose.spans import ErrorSpan

Region = Literal["prefix", "error", "after", "unlocated", "right"]
REGIONS: tuple[Region, ...] = ("prefix", "error", "after", "unlocated", "right")
#: The regions of wrong rollouts whose first error is known.
LOCATED: tuple[Region, ...] = ("prefix", "error", "after")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One response under one arm: where its error is, its localizer's weights, and what was measured at its tokens."""

    success: bool
    span: ErrorSpan | None
    weights: tuple[float, ...]
    table: TokenTable

    def regions(self) -> list[Region]:
        """Return the region of each token; a wrong response without a known error is `unlocated` throughout."""
        length = len(self.table.student_entropy)
        if self.success:
            return ["right"] * length
        span = self.span
        if span is None:
            return ["unlocated"] * length
        return ["prefix" if t < span.start else "error" if t < span.end else "after" for t in range(length)]


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """Means over the tokens of a region, in nats per token. `measures` maps each measure to its mean."""

    region: Region
    tokens: int
    measures: Mapping[str, float]
    student_entropy: float
    teacher_entropy: float


@dataclass(frozen=True, kw_only=True)
class SignalRow:
    """Where the sum of one measure lies.

    `shares` are the regions' shares over wrong rollouts whose error is known, `of_right` the share of right rollouts in the
    signal of all rollouts. `removed` is the share of the wrong rollouts' signal that the localizer's weights remove,
    `removed_of_all` that of all rollouts. NaN where there is no signal.
    """

    measure: str
    shares: Mapping[Region, float]
    of_right: float
    removed: float
    removed_of_all: float


def region_rows(scored: Sequence[Scored]) -> list[RegionRow]:
    """Return a row for each region that has tokens."""
    tokens = [(region, one, t) for one in scored for t, region in enumerate(one.regions())]
    rows = []
    for region in REGIONS:
        mine = [(one.table, t) for where, one, t in tokens if where == region]
        if mine:
            names = mine[0][0].measures
            rows.append(
                RegionRow(
                    region=region,
                    tokens=len(mine),
                    measures={name: math.fsum(table.measures[name][t] for table, t in mine) / len(mine) for name in names},
                    student_entropy=math.fsum(table.student_entropy[t] for table, t in mine) / len(mine),
                    teacher_entropy=math.fsum(table.teacher_entropy[t] for table, t in mine) / len(mine),
                )
            )
    return rows


def signal_row(scored: Sequence[Scored], measure: str) -> SignalRow:
    """Return where one measure's signal lies, and what the localizer removes of it."""
    tokens = [
        (one.success, region, value, value * weight)
        for one in scored
        for region, value, weight in zip(one.regions(), one.table.measures[measure], one.weights, strict=True)
    ]
    by_region = {where: math.fsum(value for _, region, value, _ in tokens if region == where) for where in LOCATED}
    located = math.fsum(by_region.values())
    everything = math.fsum(value for _, _, value, _ in tokens)
    kept = math.fsum(weighted for *_, weighted in tokens)
    wrong = math.fsum(value for success, _, value, _ in tokens if not success)
    kept_wrong = math.fsum(weighted for success, _, _, weighted in tokens if not success)
    return SignalRow(
        measure=measure,
        shares={region: _share(total, located) for region, total in by_region.items()},
        of_right=_share(everything - wrong, everything),
        removed=_share(wrong - kept_wrong, wrong),
        removed_of_all=_share(everything - kept, everything),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
