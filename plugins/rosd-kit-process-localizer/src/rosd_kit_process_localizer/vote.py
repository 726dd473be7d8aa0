"""Counts where reflections see the first error. It does not know how the reflections were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

import rosd_kit as rk


@dataclass(frozen=True)
class Election:
    """The start of each vote (None: its quote is not in the text), the elected start, and its share of all votes.

    A vote counts for the sentence that contains its quote. On a tie the earlier sentence wins.
    """

    starts: tuple[int | None, ...]
    start: int | None
    share: float


def elect(text: str, votes: Sequence[rk.Reflection]) -> Election:
    """Return the election of the first error of a response."""
    starts = tuple(_start(text, vote) for vote in votes)
    counts = Counter(start for start in starts if start is not None)
    if not counts:
        return Election(starts, None, 0.0)
    start, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return Election(starts, start, count / len(votes))


def _start(text: str, vote: rk.Reflection) -> int | None:
    """Return the first character of the sentence that contains the vote's quote."""
    start = vote.quote_start
    if start is None:
        start = rk.find_quote(text, vote.quote or "", hint=vote.idea or "").start
    return rk.sentence_start(text, start) if start >= 0 else None


class Vote(rk.Localizer):
    """Weights the tokens from the step on that most reflections call the first error, and all tokens of right rollouts.

    Source: the boundary is ROSD's sentence (arXiv 2605.28014, v2); the vote is self-consistency (arXiv 2203.11171).
    """

    name = "vote"
    needs = frozenset({"quote"})

    class Config(rk.Localizer.Config):
        """When a vote is valid, and the weights that it gives."""

        quorum: float = Field(default=0.5, ge=0.0, le=1.0)
        """Smallest share of all votes for the elected step, including votes whose quote is not found."""
        missing: Literal["skip", "full"] = "skip"
        """Without a valid vote: skip the rollout, or weight all of it."""
        shape: Literal["majority", "share"] = "majority"
        """`majority`: 0 before the elected step and 1 from it on. `share`: at each token, the share of the found quotes that
        begin at or before it."""

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
        per_vote = [rk.from_character(completion, start, "vote").weights for start in election.starts if start is not None]
        shares = tuple(sum(column) / len(per_vote) for column in zip(*per_vote, strict=True))
        return rk.TokenWeights(weights=shares, outcome=outcome, start_char=election.start)
