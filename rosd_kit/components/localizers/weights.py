"""Builds token weights: on every token, on none, or from a character to the end."""

from __future__ import annotations

from rosd_kit.types import Completion, TokenWeights


def everywhere(completion: Completion, outcome: str) -> TokenWeights:
    """Return weight 1 on every token."""
    return TokenWeights(weights=(1.0,) * len(completion.token_ids), outcome=outcome)


def nowhere(completion: Completion, outcome: str) -> TokenWeights:
    """Return weight 0 on every token."""
    return TokenWeights(weights=(0.0,) * len(completion.token_ids), outcome=outcome)


def from_character(completion: Completion, start: int, outcome: str) -> TokenWeights:
    """Return m_t = 1[t >= k], where k is the first token that covers text at or after character `start`.

    If the text ends at `start` (the response stopped too early), only the last token gets weight.
    """
    spans = completion.token_spans
    first = next((t for t, (a, b) in enumerate(spans) if a < b and b > start), max(0, len(spans) - 1))
    weights = tuple(float(t >= first) for t in range(len(spans)))
    return TokenWeights(weights=weights, outcome=outcome, start_char=start)
