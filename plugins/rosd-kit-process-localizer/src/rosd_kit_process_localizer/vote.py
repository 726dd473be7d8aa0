"""Counting where reflections see the first error. Knows nothing of who made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

import rosd_kit as rk


@dataclass(frozen=True)
class Election:
    """Where each vote begins (None: its quote is not in the text), the elected start, and its share of all votes.

    A vote counts for the sentence that holds its quote. Of equally many votes the earlier sentence wins.
    """

    places: tuple[int | None, ...]
    start: int | None
    share: float


def elect(text: str, votes: Sequence[rk.Reflection]) -> Election:
    """Return what most votes say of a response."""
    places = tuple(_place(text, vote) for vote in votes)
    counted = Counter(place for place in places if place is not None)
    if not counted:
        return Election(places, None, 0.0)
    start, most = min(counted.items(), key=lambda item: (-item[1], item[0]))
    return Election(places, start, most / len(votes))


def _place(text: str, vote: rk.Reflection) -> int | None:
    start = vote.quote_start
    if start is None:
        start = rk.find_quote(text, vote.quote or "", hint=vote.idea or "").start
    return rk.sentence_start(text, start) if start >= 0 else None


class Vote(rk.Localizer):
    """Weights the tokens from the step on that most reflections call the first error; right rollouts have weight everywhere.

    Source: the boundary is ROSD's sentence (arXiv 2605.28014, v2); the vote is self-consistency (arXiv 2203.11171).
    """

    name = "vote"
    needs = frozenset({"quote"})

    class Config(rk.Localizer.Config):
        """When the vote is valid, and what becomes of it."""

        quorum: float = Field(default=0.5, ge=0.0, le=1.0)
        """The elected step needs at least this share of all votes, lost quotes included."""
        missing: Literal["skip", "full"] = "skip"
        """No valid vote: leave the rollout out, or weight all of it."""
        shape: Literal["majority", "share"] = "majority"
        """`majority`: 0 before the elected step and 1 from it on. `share`: at each token the share of the found quotes that
        begin there or earlier."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        """Return the weights of one rollout; a reflection without alternatives is one vote."""
        completion = case.rollout.completion
        if case.rollout.verdict.success:
            return rk.everywhere(completion, "right")
        votes = (case.reflection.alternatives or (case.reflection,)) if case.reflection else ()
        election = elect(completion.text, votes)
        if election.start is None or election.share < self.config.quorum:
            outcome = "missing" if election.start is None else "no_majority"
            return (rk.nowhere if self.config.missing == "skip" else rk.everywhere)(completion, outcome)
        outcome = "unanimous" if election.share == 1.0 else "majority"
        elected = rk.from_character(completion, election.start, outcome)
        if self.config.shape == "majority":
            return elected
        found = [rk.from_character(completion, place, "vote").weights for place in election.places if place is not None]
        shares = tuple(sum(column) / len(found) for column in zip(*found, strict=True))
        return rk.TokenWeights(weights=shares, outcome=outcome, start_char=election.start)
