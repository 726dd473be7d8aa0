"""Writes one record per rollout, readable without this project; those that were left out carry the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from rosd_kit.pipeline.oracle import judge_reflection, judge_start, judged_truth
from rosd_kit.seeds import stable_seed
from rosd_kit.types import DistillSample, Message, Problem, Rollout, SampleScores, StepBatch, Trace

Decode = Callable[[Sequence[int]], str]
#: Significant digits of per-token numbers: enough to look at, in a third of the bytes.
_DIGITS = 4


class Judged(TypedDict):
    """How localizer and reflector did against the truth: `start` in a word, of a localizer that looks for the error.

    The others are there where the reflection has the part.
    """

    start: NotRequired[str]
    quote: NotRequired[bool]
    idea: NotRequired[bool]


class RolloutRecord(TypedDict):
    """What a line of `samples/step-*.jsonl` says of every rollout. Lists per token are as long as `token_ids`."""

    step: int
    problem: str
    suite: str
    messages: list[Message]
    answer: str
    index: int
    response: str
    token_ids: list[int]
    token_spans: list[list[int]]
    finish_reason: str
    score: float
    success: bool
    answered: str | None
    feedback: str
    student_prompt: str
    status: str


class LeftOutRecord(RolloutRecord):
    """A rollout that did not pass the gate, or could not be judged or trained on; its `status` is `left_out`."""

    reason: str


class SampleRecord(RolloutRecord):
    """A rollout that passed the gate. Log-probs are in nats.

    `located_at` and `true_error` are positions in `response`, in characters. What was not measured, or does not exist, is None.
    """

    views: list[str]
    view_sources: list[str]
    reflection: str
    reflection_status: str
    idea: str | None
    quote: str | None
    weights: list[float] | None
    localized: str | None
    located_at: int | None
    true_error: list[int] | None
    judged: Judged | None
    divergence: list[float] | None
    student_logprobs: list[float] | None
    teacher_logprobs: list[float] | None
    teacher_prompts: list[str]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The samples of a step as they were trained on, in order, and their scores."""

    samples: Sequence[DistillSample] = ()
    scores: Sequence[SampleScores] = ()


def sample_records(
    step: int,
    batch: StepBatch,
    decode: Decode,
    trained: Trained | None = None,
    share: float = 1.0,
    *,
    locates: bool = True,
) -> Iterator[SampleRecord | LeftOutRecord]:
    """Yield one record per rollout of the step; with `trained`, including the loss per token.

    Rollouts that were left out come last, with the reason. With a `share` below 1, only so many groups are recorded, at least
    one; which ones depends on the step and the problems' ids.
    `locates` says whether the localizer looks for the error, so that it can miss one.
    """
    trained = trained or Trained()
    scored = iter(zip(trained.samples, trained.scores, strict=True))
    chosen = _chosen([group.problem.id for group in batch.groups], step, share)
    for trace in batch.traces:
        sample, scores = next(scored, (None, None)) if trace.sample is not None else (None, None)
        if trace.case.problem.id in chosen:
            yield _record(step, trace, decode, sample, scores, locates=locates)
    groups = {group.problem.id: group for group in batch.groups}
    for one in batch.left_out:
        if one.problem_id in chosen:
            group = groups[one.problem_id]
            rollout = next(rollout for rollout in group.rollouts if rollout.index == one.index)
            yield {**_rollout(step, group.problem, rollout, "left_out", decode), "reason": one.reason}


def _chosen(problems: Sequence[str], step: int, share: float) -> frozenset[str]:
    """Return the problems to record: a share of them, rounded up, in an order that only their ids and the step decide."""
    order = sorted(problems, key=lambda problem: stable_seed("samples", step, problem))
    return frozenset(order[: math.ceil(share * len(order))])


def _rollout(step: int, problem: Problem, rollout: Rollout, status: str, decode: Decode) -> RolloutRecord:
    completion, verdict = rollout.completion, rollout.verdict
    return {
        "step": step,
        "problem": problem.id,
        "suite": problem.suite,
        "messages": list(problem.messages),
        "answer": problem.answer,
        "index": rollout.index,
        "response": completion.text,
        "token_ids": list(completion.token_ids),
        "token_spans": [list(span) for span in completion.token_spans],
        "finish_reason": completion.finish_reason,
        "score": verdict.score,
        "success": verdict.success,
        "answered": verdict.answer,
        "feedback": verdict.feedback,
        "student_prompt": decode(completion.prompt_ids),
        "status": status,
    }


def _record(
    step: int, trace: Trace, decode: Decode, sample: DistillSample | None, scores: SampleScores | None, *, locates: bool
) -> SampleRecord:
    case = trace.case
    reflection = case.reflection
    weights = trace.weights.weights if trace.weights else None
    if sample is not None and trace.weights is not None:
        weights = sample.token_weights  # the localizer may have refined them
    return {
        **_rollout(step, case.problem, case.rollout, trace.status, decode),
        "views": [view.text for view in case.views],
        "view_sources": [view.source for view in case.views],
        "reflection": reflection.raw if reflection else "",
        "reflection_status": reflection.status if reflection else "none",
        "idea": reflection.idea if reflection else None,
        "quote": reflection.quote if reflection else None,
        "weights": _rounded(weights),
        "localized": trace.weights.outcome if trace.weights else None,
        "located_at": trace.weights.start_char if trace.weights else None,
        "true_error": [case.truth.start, case.truth.end] if case.truth and case.truth.start >= 0 else None,
        "judged": _judged(trace, locates=locates),
        "divergence": _rounded(scores.divergence if scores and trace.teacher_views else None),
        "student_logprobs": _rounded(scores.student if scores else None),
        "teacher_logprobs": _rounded(scores.teacher if scores and trace.teacher_views else None),
        "teacher_prompts": [decode(view.prompt_ids) for view in trace.teacher_views],
    }


def _judged(trace: Trace, *, locates: bool) -> Judged | None:
    """Judge localizer and reflector against the truth; None if it is unknown."""
    case, truth = trace.case, judged_truth(trace.case)
    if truth is None or trace.weights is None:
        return None
    text = case.rollout.completion.text
    judged = judge_reflection(text, truth, case.reflection) if case.reflection else {}
    record: Judged = {"start": judge_start(text, truth, trace.weights.start_char)} if locates else {}
    if judged.get("quote_asked"):
        record["quote"] = bool(judged["quote_right"])
    if judged.get("idea_asked"):
        record["idea"] = bool(judged["idea_right"])
    return record


def _rounded(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(f"{value:.{_DIGITS}g}") for value in values]
