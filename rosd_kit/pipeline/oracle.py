"""What a reflector and a localizer found, held against the true first error of a wrong rollout.

Pure functions from one rollout to counts; they know neither which parts are judged nor where the truth comes from.
"""

from __future__ import annotations

from rosd_kit.text.sentences import sentence_start
from rosd_kit.types import Case, FirstError, Reflection


def judged_truth(case: Case) -> FirstError | None:
    """Return the true first error where there is one to find: a wrong rollout of a task that knows."""
    truth = case.truth
    return truth if truth is not None and truth.status != "none" and not case.rollout.verdict.success else None


def judge_start(text: str, truth: FirstError, start: int | None) -> str:
    """Return how well a signal that begins at `start` finds the first error.

    `exact_start`: at the first character of the wrong claim or of its sentence, so that both boundaries of `error_quote` can
    be exact. `within_step`: elsewhere in that sentence or in one beside it. `missed`: anything else, also no start at all.
    """
    if start is None:
        return "missed"
    if start in (truth.start, truth.sentence_start):
        return "exact_start"
    said, true = sentence_start(text, start), sentence_start(text, truth.start)
    return "within_step" if said == true or _before(text, said) == true or _before(text, true) == said else "missed"


def judge_reflection(text: str, truth: FirstError, reflection: Reflection) -> dict[str, float]:
    """Return what was asked of a reflector and got right: the quoted first error, the right claim at the idea's start.

    Nothing was asked of a skipped rollout, and no quote of one that stopped too early.
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


def _before(text: str, sentence: int) -> int:
    """Return where the sentence before the one that begins at `sentence` begins; the first has itself before it."""
    return sentence_start(text, max(0, sentence - 1))
