"""What is written of a step's rollouts: one record each, readable without this project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rosd_kit.types import StepBatch, Trace

Decode = Callable[[Sequence[int]], str]


def sample_records(step: int, batch: StepBatch, decode: Decode) -> Iterator[dict[str, Any]]:
    """Yield one record for each gated rollout of the step."""
    for trace in batch.traces:
        yield _record(step, trace, decode)


def _record(step: int, trace: Trace, decode: Decode) -> dict[str, Any]:
    case = trace.case
    completion, verdict, reflection = case.rollout.completion, case.rollout.verdict, case.reflection
    return {
        "step": step,
        "problem": case.problem.id,
        "messages": list(case.problem.messages),
        "answer": case.problem.answer,
        "index": case.rollout.index,
        "response": completion.text,
        "token_ids": list(completion.token_ids),
        "token_spans": [list(span) for span in completion.token_spans],
        "finish_reason": completion.finish_reason,
        "score": verdict.score,
        "success": verdict.success,
        "views": [view.text for view in case.views],
        "reflection": reflection.raw if reflection else "",
        "reflection_status": reflection.status if reflection else "none",
        "idea": reflection.idea if reflection else None,
        "quote": reflection.quote if reflection else None,
        "weights": list(trace.weights.weights) if trace.weights else None,
        "localized": trace.weights.outcome if trace.weights else None,
        "true_error": [case.truth.start, case.truth.end] if case.truth and case.truth.start >= 0 else None,
        "teacher_prompts": [decode(view.prompt_ids) for view in trace.teacher_views],
        "status": trace.status,
    }
