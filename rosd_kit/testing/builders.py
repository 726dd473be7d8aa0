"""Builds fake values of every stage for tests: pass what matters to the test, the builder fills in the rest.

No model is involved: a response's tokens are its words, each with the white space before it, and an end token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

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

#: The default response of a rollout; its second step is wrong.
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
    meta: Mapping[str, object] | None = None,
) -> Problem:
    """Return a problem with one user message, after a system message if `system` is given."""
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
    """Return a completion with this text; pass a sequence of strings to choose the tokens.

    `stop` adds an end token with an empty character range. `overlong` has no tokens, whatever the text.
    """
    tokens = re.findall(r"\s*\S+|\s+$", text) if isinstance(text, str) else list(text)
    if finish_reason == "overlong":
        tokens = []
    ends = list(accumulate(map(len, tokens)))
    spans = [(end - len(token), end) for token, end in zip(tokens, ends, strict=True)]
    ids = [_END + 1 + index for index in range(len(tokens))]
    if finish_reason == "stop":
        spans.append((ends[-1], ends[-1]) if ends else (0, 0))
        ids.append(_END)
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(ids),
        logprobs=(logprob,) * len(ids),
        text="".join(tokens),
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
    """Return a completion with its verdict; `score` defaults to 1 if `right`, else to 0."""
    verdict = Verdict(score=float(right) if score is None else score, success=right, feedback=feedback, status=status)
    return Rollout(index=index, completion=fake_completion(text, finish_reason=finish_reason), verdict=verdict)


def fake_group(
    *members: tuple[str | Sequence[str], bool] | Rollout, problem: Problem | None = None, right: Sequence[bool] = (False, True)
) -> Group:
    """Return a group of these rollouts or (text, right) pairs; without any, of one rollout for each item of `right`."""
    members = members or tuple(
        (SOLUTION if is_right else f"{RESPONSE} {index}", is_right) for index, is_right in enumerate(right)
    )
    rollouts = tuple(
        member if isinstance(member, Rollout) else fake_rollout(member[0], right=member[1], index=index)
        for index, member in enumerate(members)
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
    """Return a reflection that quotes the error in `RESPONSE`."""
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
    """Return the case of `rollout`, or of a new rollout with this text and verdict."""
    rollout = rollout or fake_rollout(text, right=right, feedback=feedback, finish_reason=finish_reason)
    all_views = tuple(View(text=v, source=f"sibling {i}") if isinstance(v, str) else v for i, v in enumerate(views, 1))
    return Case(problem=problem or fake_problem(), rollout=rollout, views=all_views, truth=truth, reflection=reflection)


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
    """Return a sample with `length` response tokens; `teacher_views` are the views, or their number."""
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
    """A `Generate` that returns scripted answers and records its calls.

    It cycles through `answers`; a function among them is called with the prompt. `prompts`, `samplings`, `budgets` and
    `weights` record each prompt and the arguments it came with.
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
        completions = []
        for prompt in prompts:
            answer = self.answers[len(self.prompts) % len(self.answers)]
            answer = answer if isinstance(answer, str | Completion) else answer(prompt)
            completions.append(fake_completion(answer) if isinstance(answer, str) else answer)
            self.prompts.append(prompt)
            self.samplings.append(sampling)
            self.budgets.append(max_prompt_tokens)
            self.weights.append(weights)
        return completions
