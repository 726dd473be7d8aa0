"""Splits a wrong response at its first error. Knows spans of characters and tokens; knows no model and no loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rosd_kit.pipeline.oracle import judged_truth
from rosd_kit.text.quotes import find_quote
from rosd_kit.text.sentences import sentence_start
from rosd_kit.types import Case, Completion, TokenWeights

Source = Literal["oracle", "localizer"]


@dataclass(frozen=True, kw_only=True)
class ErrorSpan:
    """The tokens `start` to `end` (half-open) of a response's first error, and who says so.

    A response that stopped too early has its error at its last token. At least one token is in the span.
    """

    start: int
    end: int
    source: Source


def error_span(case: Case, weights: TokenWeights | None) -> ErrorSpan | None:
    """Return where a wrong rollout first goes wrong: by the task's oracle, else by what the localizer found, else None.

    A localizer says only where the error begins: it ends with the reflector's quote if that begins there, else with the
    sentence.
    """
    completion = case.rollout.completion
    if case.rollout.verdict.success or not completion.token_ids:
        return None
    truth = judged_truth(case)
    if truth is not None and truth.start >= 0:
        return _tokens(completion, truth.start, truth.end, "oracle")
    if case.truth is not None or weights is None or weights.start_char is None:
        return None
    return _tokens(completion, weights.start_char, _end_of_error(case, weights.start_char), "localizer")


def _end_of_error(case: Case, start: int) -> int:
    text, reflection = case.rollout.completion.text, case.reflection
    if reflection is not None and reflection.quote:
        match = find_quote(text, reflection.quote, hint=reflection.idea or "")
        if match.start <= start < match.end or (match.outcome != "missing" and sentence_start(text, match.start) == start):
            return match.end
    later = (place for place in range(start + 1, len(text)) if sentence_start(text, place) > start)
    return next(later, len(text))


def _tokens(completion: Completion, start: int, end: int, source: Source) -> ErrorSpan:
    inside = [t for t, (a, b) in enumerate(completion.token_spans) if a < b and b > start and a < end]
    if not inside:
        last = len(completion.token_ids) - 1
        return ErrorSpan(start=last, end=last + 1, source=source)
    return ErrorSpan(start=inside[0], end=inside[-1] + 1, source=source)
