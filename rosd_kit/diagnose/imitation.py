"""How much a text repeats of another: the share of its runs of four words that also occur there. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Shorter runs are common to all solutions of a problem; longer ones hardly occur in short responses.
RUN = 4


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """What a teacher writes beside what the student writes, over the same rollouts.

    `teacher_overlap` and `student_overlap` are mean shares of their runs of four words that occur in the privileged text,
    lengths are means in words, `teacher_right` and `student_right` shares of right responses.
    """

    responses: int
    teacher_overlap: float
    student_overlap: float
    shown_words: float
    teacher_words: float
    student_words: float
    teacher_right: float
    student_right: float


def overlap(text: str, shown: str) -> float:
    """Return the share of the runs of four words in `text` that occur in `shown`; a shorter text is one run."""
    words, model = text.split(), shown.split()
    size = min(RUN, len(words))
    if not size:
        return 0.0
    known = {tuple(model[i : i + size]) for i in range(len(model) - size + 1)}
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return sum(run in known for run in runs) / len(runs)


def compare_writing(
    shown: Sequence[str], teacher: Sequence[tuple[str, bool]], student: Sequence[tuple[str, bool]]
) -> Imitation:
    """Sum up what was shown, and what teacher and student wrote, each with whether it is right; one entry per rollout."""
    count = len(shown)
    assert count, "nothing was written"

    def mean(values: Sequence[float]) -> float:
        return sum(values) / count

    return Imitation(
        responses=count,
        teacher_overlap=mean([overlap(text, seen) for (text, _), seen in zip(teacher, shown, strict=True)]),
        student_overlap=mean([overlap(text, seen) for (text, _), seen in zip(student, shown, strict=True)]),
        shown_words=mean([len(text.split()) for text in shown]),
        teacher_words=mean([len(text.split()) for text, _ in teacher]),
        student_words=mean([len(text.split()) for text, _ in student]),
        teacher_right=mean([float(right) for _, right in teacher]),
        student_right=mean([float(right) for _, right in student]),
    )
