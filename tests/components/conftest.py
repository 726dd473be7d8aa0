"""Hand-made rollouts: a text in pieces is a response whose tokens are the pieces, with an end token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest

from rosd_kit.types import Case, Completion, FirstError, Group, Problem, Reflection, Rollout, Verdict, View

END = 1


def completion(pieces: Sequence[str], *, ended: bool = True) -> Completion:
    ends = list(accumulate(map(len, pieces)))
    spans = [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]
    ids = [2 + place for place in range(len(pieces))]
    if ended:
        spans.append((ends[-1], ends[-1]) if ends else (0, 0))
        ids.append(END)
    return Completion(
        prompt_ids=(9,),
        token_ids=tuple(ids),
        logprobs=(-0.5,) * len(ids),
        text="".join(pieces),
        token_spans=tuple(spans),
        finish_reason="stop" if ended else "length",
    )


def rollout(pieces: Sequence[str], *, right: bool = False, index: int = 0, ended: bool = True, feedback: str = "") -> Rollout:
    verdict = Verdict(score=float(right), success=right, feedback=feedback)
    return Rollout(index=index, completion=completion(pieces, ended=ended), verdict=verdict)


def problem(id: str = "p", *, solution: str | None = "the reference") -> Problem:
    return Problem(id=id, messages=({"role": "user", "content": f"question {id}"},), answer="29", solution=solution)


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    return problem


@pytest.fixture
def make_rollout() -> Callable[..., Rollout]:
    return rollout


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    def make(
        pieces: Sequence[str],
        *,
        right: bool = False,
        ended: bool = True,
        feedback: str = "",
        views: Sequence[str] = (),
        truth: FirstError | None = None,
        reflection: Reflection | None = None,
    ) -> Case:
        return Case(
            problem=problem(),
            rollout=rollout(pieces, right=right, ended=ended, feedback=feedback),
            views=tuple(View(text=text, source=f"sibling {i}") for i, text in enumerate(views)),
            truth=truth,
            reflection=reflection,
        )

    return make


@pytest.fixture
def make_group() -> Callable[..., Group]:
    """Make a group of rollouts from `(text's words, right)` pairs."""

    def make(*members: tuple[str, bool], id: str = "p", solution: str | None = "the reference") -> Group:
        rollouts = tuple(rollout(text.split(), right=right, index=i) for i, (text, right) in enumerate(members))
        return Group(problem=problem(id, solution=solution), rollouts=rollouts)

    return make
