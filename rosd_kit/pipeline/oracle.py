"""Judges reflector and localizer against the true first error of a wrong rollout.

Pure functions from one rollout to counts. They know neither which components are judged nor where the truth comes from.
"""

from __future__ import annotations

from rosd_kit.text.sentences import sentence_start
from rosd_kit.types import Case, FirstError, Reflection


def judged_truth(case: Case) -> FirstError | None:
    """Return the true first error of a wrong rollout whose task knows it, else None."""
    truth = case.truth
    return truth if truth is not None and truth.status != "none" and not case.rollout.verdict.success else None


def judge_start(text: str, truth: FirstError, start: int | None) -> str:
    """Judge a signal that begins at character `start`.

    `exact_start`: at the first character of the wrong claim or of its sentence, so that both boundaries of `error_quote` can
    be exact. `within_step`: elsewhere in that sentence or in an adjacent one. `missed`: anything else, or no start at all.
    """
    if start is None:
        return "missed"
    if start in (truth.start, truth.sentence_start):
        return "exact_start"
    found, true = sentence_start(text, start), sentence_start(text, truth.start)
    close = found == true or _sentence_before(text, found) == true or _sentence_before(text, true) == found
    return "within_step" if close else "missed"


def judge_reflection(text: str, truth: FirstError, reflection: Reflection) -> dict[str, float]:
    """Count what a reflector was asked for and got right: the quote of the first error, the right claim first in its idea.

    A skipped rollout asks for nothing, and one that stopped too early for no quote.
    """
    if reflection.status == "skipped":
        return {}
    due, replacement = text[truth.start : truth.end], truth.replacement.split()
    idea = (reflection.idea or "").split()
    return {
        "quote_asked": float(bool(due)),
        "quote_right": float(bool(due) and (reflection.quote or "").strip() == due),
        "idea_asked": float(bool(replacement)),
        "idea_right": float(bool(replacement) and idea[: len(replacement)] == replacement),
    }


def _sentence_before(text: str, sentence: int) -> int:
    """Return where the previous sentence begins; for the first sentence, its own start."""
    return sentence_start(text, max(0, sentence - 1))
