"""Chooses a right hint and several wrong ones from a rollout's own group. It does not know how they are used."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import PositiveInt

import rosd_kit as rk

RIGHT, WRONG = "right", "wrong"


class RightAndWrong(rk.Demonstration):
    """Shows one right sibling and several wrong ones, drawn with the run's seed; nothing if either kind is missing.

    Source: RLCSD (arXiv 2606.11709), with K negative hints and never the rollout itself.
    """

    name = "right_and_wrong"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration", "contrast"})

    class Config(rk.Demonstration.Config):
        """The number of hints."""

        wrong: PositiveInt = 4
        """Largest number of wrong siblings to show; each adds a teacher view."""

    def views(self, group: rk.Group, rollout: rk.Rollout, batch: Sequence[rk.Group], rng: random.Random) -> tuple[rk.View, ...]:
        """Return the right view first; each source begins with `right` or `wrong`."""
        siblings = [r for r in group.rollouts if r.index != rollout.index and _text(r) not in ("", _text(rollout))]
        right = [sibling for sibling in siblings if sibling.verdict.success]
        wrong = [sibling for sibling in siblings if not sibling.verdict.success and sibling.verdict.status == "ok"]
        if not right or not wrong:
            return ()
        chosen = [rng.choice(right), *rng.sample(wrong, min(len(wrong), self.config.wrong))]
        kinds = [RIGHT, *[WRONG] * (len(chosen) - 1)]
        return tuple(
            rk.View(text=r.completion.text, source=f"{kind} sibling {r.index}") for kind, r in zip(kinds, chosen, strict=True)
        )


def _text(rollout: rk.Rollout) -> str:
    return rollout.completion.text.strip()
