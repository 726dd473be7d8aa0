"""Made-up values of every stage, for tests: each builder takes what matters to a test and fills in the rest.

They hold no model: a response's tokens are its words with the white space before them, and an end token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    FinishReason,
    FirstError,
    Group,
    Message,
    PolicyWeights,
    Problem,
    Prompt,
    Reflection,
    ReflectionStatus,
    Rollout,
    Sampling,
    TeacherView,
    Verdict,
    VerdictStatus,
    View,
)

#: What a rollout says unless a test says something else: its second step is wrong.
RESPONSE = "Step 1 : 17 + 8 = 25 . Step 2 : 25 + 4 = 30 . Answer : 30 ."
QUOTE = "25 + 4 = 30"
SOLUTION = "Step 1 : 17 + 8 = 25 . Step 2 : 25 + 4 = 29 . Answer : 29 ."

_END = 1


def fake_problem(
    *,
    id: str = "p",
    question: str = "Start at 17 . Add 8 . Add 4 . What is the result ?",
    answer: str = "29",
    solution: str | None = SOLUTION,
    system: str | None = None,
    suite: str = "",
    meta: Mapping[str, Any] | None = None,
) -> Problem:
    """Return a problem with one user message, and a system message where `system` is given."""
    head: list[Message] = [{"role": "system", "content": system}] if system else []
    messages: tuple[Message, ...] = (*head, {"role": "user", "content": question})
    return Problem(id=id, messages=messages, answer=answer, solution=solution, suite=suite, meta=dict(meta or {}))


def fake_completion(
    text: str | Sequence[str] = RESPONSE,
    *,
    finish_reason: FinishReason = "stop",
    prompt_ids: Sequence[int] = (9, 8, 7),
    logprob: float = -0.5,
    weight_version: int = 0,
) -> Completion:
    """Return a completion of this text, or of these pieces of text as its tokens.

    `stop` adds an end token, whose range of characters is empty. `overlong` has no tokens, whatever the text.
    """
    pieces = re.findall(r"\s*\S+|\s+$", text) if isinstance(text, str) else list(text)
    if finish_reason == "overlong":
        pieces = []
    ends = list(accumulate(map(len, pieces)))
    spans = [(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]
    ids = [2 + place for place in range(len(pieces))]
    if finish_reason == "stop":
        spans.append((ends[-1], ends[-1]) if ends else (0, 0))
        ids.append(_END)
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(ids),
        logprobs=(logprob,) * len(ids),
        text="".join(pieces),
        token_spans=tuple(spans),
        finish_reason=finish_reason,
        weight_version=weight_version,
    )


def fake_rollout(
    text: str | Sequence[str] = RESPONSE,
    *,
    right: bool = False,
    score: float | None = None,
    feedback: str = "",
    status: VerdictStatus = "ok",
    index: int = 0,
    finish_reason: FinishReason = "stop",
) -> Rollout:
    """Return a judged completion; `score` is 1 for a right one and 0 for a wrong one unless given."""
    judged = Verdict(score=float(right) if score is None else score, success=right, feedback=feedback, status=status)
    return Rollout(index=index, completion=fake_completion(text, finish_reason=finish_reason), verdict=judged)


def fake_group(
    *members: tuple[str | Sequence[str], bool] | Rollout, problem: Problem | None = None, right: Sequence[bool] = (False, True)
) -> Group:
    """Return a group of these rollouts, or of these (text, right) pairs; without any, of one text for each of `right`."""
    told = members or tuple((SOLUTION if is_right else f"{RESPONSE} {place}", is_right) for place, is_right in enumerate(right))
    rollouts = tuple(
        member if isinstance(member, Rollout) else fake_rollout(member[0], right=member[1], index=place)
        for place, member in enumerate(told)
    )
    return Group(problem=problem or fake_problem(), rollouts=rollouts)


def fake_reflection(
    *,
    idea: str | None = "25 + 4 is 29 , because 5 + 4 is 9 .",
    quote: str | None = QUOTE,
    quote_start: int | None = None,
    status: ReflectionStatus = "ok",
    raw: str = "",
) -> Reflection:
    """Return a reflection that quotes the error of `RESPONSE`."""
    return Reflection(idea=idea, quote=quote, quote_start=quote_start, status=status, raw=raw)


def fake_case(
    text: str | Sequence[str] = RESPONSE,
    *,
    right: bool = False,
    problem: Problem | None = None,
    rollout: Rollout | None = None,
    views: Sequence[str | View] = (SOLUTION,),
    truth: FirstError | None = None,
    reflection: Reflection | None = None,
    feedback: str = "",
    finish_reason: FinishReason = "stop",
) -> Case:
    """Return what is known of one rollout: of `rollout`, or of one with this text and verdict."""
    told = rollout or fake_rollout(text, right=right, feedback=feedback, finish_reason=finish_reason)
    shown = tuple(View(text=v, source=f"sibling {i}") if isinstance(v, str) else v for i, v in enumerate(views, 1))
    return Case(problem=problem or fake_problem(), rollout=told, views=shown, truth=truth, reflection=reflection)


def fake_sample(
    *,
    length: int = 6,
    token_weights: Sequence[float] | None = None,
    behaviour: float = -0.5,
    teacher_views: Sequence[TeacherView] | int = 1,
    reward: float = 0.0,
    success: bool = False,
    group_rewards: Sequence[float] = (0.0, 1.0),
    weight: float = 1.0,
    route: str = "*",
    problem_id: str = "p",
) -> DistillSample:
    """Return a sample of `length` response tokens; `teacher_views` are the views, or how many there are."""
    views = (
        tuple(TeacherView(prompt_ids=(9, 8, 7, 6 + i), source=f"view {i}") for i in range(teacher_views))
        if isinstance(teacher_views, int)
        else tuple(teacher_views)
    )
    return DistillSample(
        problem_id=problem_id,
        prompt_ids=(9, 8, 7),
        response_ids=tuple(range(2, 2 + length)),
        behaviour_logprobs=(behaviour,) * length,
        token_weights=(1.0,) * length if token_weights is None else tuple(token_weights),
        teacher_views=views,
        reward=reward,
        success=success,
        group_rewards=tuple(group_rewards),
        weight=weight,
        route=route,
    )


class fake_generate:
    """A `Generate` that says what it is told to, and remembers what it was asked.

    `answers` are said in turn, again from the first when they are used up; a function is given the prompt. `prompts`,
    `samplings`, `budgets` and `weights` hold what each prompt came with.
    """

    def __init__(self, *answers: str | Completion | Callable[[Prompt], str | Completion]) -> None:
        self.answers = answers or ("",)
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []
        self.budgets: list[int] = []
        self.weights: list[PolicyWeights] = []

    def __call__(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: PolicyWeights
    ) -> list[Completion]:
        said = []
        for prompt in prompts:
            answer = self.answers[len(self.prompts) % len(self.answers)]
            answer = answer if isinstance(answer, str | Completion) else answer(prompt)
            said.append(fake_completion(answer) if isinstance(answer, str) else answer)
            self.prompts.append(prompt)
            self.samplings.append(sampling)
            self.budgets.append(max_prompt_tokens)
            self.weights.append(weights)
        return said
