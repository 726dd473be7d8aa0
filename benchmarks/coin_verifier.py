"""The verifier `coin`, for benchmarks on random weights: every other rollout is right, so that every group is mixed."""

from __future__ import annotations

from collections.abc import Sequence

import rosd_kit as rk

rosd_kit_api = 2


class Coin(rk.Verifier):
    """Calls every other rollout of a group right, whatever it says."""

    name = "coin"

    def verify(self, problem: rk.Problem, text: str) -> rk.Verdict:
        return rk.Verdict(score=0.0, success=False)

    def verify_group(self, problem: rk.Problem, texts: Sequence[str]) -> list[rk.Verdict]:
        return [rk.Verdict(score=float(index % 2), success=index % 2 == 1) for index in range(len(texts))]


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Coin]
