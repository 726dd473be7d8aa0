"""Hand-made rollouts: a response given as the texts of its tokens, plus an end token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest

from rosd_kit.types import Case, Completion, FirstError, Group, Problem, Reflection, Rollout, Verdict, View

END = 1


def completion(token_texts: Sequence[str], *, ended: bool = True) -> Completion:
    ends = list(accumulate(map(len, token_texts)))
    spans = [(end - len(token_text), end) for token_text, end in zip(token_texts, ends, strict=True)]
    ids = [2 + index for index in range(len(token_texts))]
    if ended:
        spans.append((ends[-1], ends[-1]) if ends else (0, 0))
        ids.append(END)
    return Completion(
        prompt_ids=(9,),
        token_ids=tuple(ids),
        logprobs=(-0.5,) * len(ids),
        text="".join(token_texts),
        token_spans=tuple(spans),
        finish_reason="stop" if ended else "length",
    )


def rollout(
    token_texts: Sequence[str], *, right: bool = False, index: int = 0, ended: bool = True, feedback: str = ""
) -> Rollout:
    verdict = Verdict(score=float(right), success=right, feedback=feedback)
    return Rollout(index=index, completion=completion(token_texts, ended=ended), verdict=verdict)


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
        token_texts: Sequence[str],
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
            rollout=rollout(token_texts, right=right, ended=ended, feedback=feedback),
            views=tuple(View(text=text, source=f"sibling {i}") for i, text in enumerate(views)),
            truth=truth,
            reflection=reflection,
        )

    return make


@pytest.fixture
def make_group() -> Callable[..., Group]:
    """Make a group of rollouts from `(text, right)` pairs; the words of a text are its tokens."""

    def make(*members: tuple[str, bool], id: str = "p", solution: str | None = "the reference") -> Group:
        rollouts = tuple(rollout(text.split(), right=right, index=i) for i, (text, right) in enumerate(members))
        return Group(problem=problem(id, solution=solution), rollouts=rollouts)

    return make
