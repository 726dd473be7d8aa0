"""A verifier that accepts every other rollout, so that random models have successes and failures in each group."""

from __future__ import annotations

import rosd_kit as rk


class Coin(rk.Verifier):
    """Accepts every other rollout."""

    name = "coin"

    def verify(self, problem, text):
        return rk.Verdict(score=0.0, success=False)

    def verify_group(self, problem, texts):
        return [rk.Verdict(score=float(i % 2), success=bool(i % 2), feedback="heads or tails") for i in range(len(texts))]


@rk.hookimpl
def rosd_kit_components():
    return [Coin]
