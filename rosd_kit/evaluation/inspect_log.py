"""Builds evaluation logs that Inspect (inspect_ai) reads: `inspect view --log-dir DIR`. One log is one suite of one model.

Knows the format (version 2) and no files. Inspect itself is not needed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.types import Completion, JsonObject, Problem, Sampling, Verdict
from rosd_kit.version import __version__

_STOP_REASONS = {"stop": "stop", "length": "max_tokens", "overlong": "model_length", "abort": "unknown"}
_ID_DIGITS = 22


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One response of an evaluation and its verdict. Status `error` means that the verifier itself failed."""

    problem: Problem
    completion: Completion
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured and how. `created` is a time in ISO 8601 with a zone; `step` is how long the model was trained."""

    model: str
    step: int | None
    recipe: str
    verifier: str
    sampling: Sampling
    created: str


def inspect_log(measured: Measured, result: SuiteResult, judgements: Sequence[Judgement]) -> JsonObject:
    """Return the log of one suite. Responses on which the verifier failed have no score."""
    samples, sampling = _samples(measured, judgements), measured.sampling
    scored = [sample for sample in samples if sample["scores"]]
    id = log_id(measured, result.suite)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": id,
            "run_id": id,
            "task_id": id,
            "created": measured.created,
            "task": result.suite,
            "dataset": {
                "name": result.suite,
                "samples": result.problems,
                "sample_ids": list(dict.fromkeys(one.problem.id for one in judgements)),
            },
            "model": measured.model,
            "model_generate_config": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                **({"top_k": sampling.top_k} if sampling.top_k else {}),
                "max_tokens": sampling.max_new_tokens,
                **({"stop_seqs": list(sampling.stop)} if sampling.stop else {}),
            },
            "config": {"epochs": result.samples},
            "packages": {"rosd-kit": __version__},
            "metadata": {"recipe": measured.recipe, "steps": measured.step, "in_domain": result.in_domain},
        },
        "plan": {"steps": [{"solver": "generate", "params": {}}]},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [
                {
                    "name": measured.verifier,
                    "scorer": measured.verifier,
                    "scored_samples": len(scored),
                    "unscored_samples": len(samples) - len(scored),
                    "metrics": {name: {"name": name, "value": value} for name, value in _metrics(result).items()},
                }
            ],
        },
        "stats": {"started_at": measured.created, "completed_at": measured.created},
        "samples": samples,
    }


def log_name(measured: Measured, suite: str) -> str:
    """Return the name of the log's file, in the form in which Inspect lists logs: time, task, id."""
    time = re.sub(r"[:.]", "-", measured.created)
    return f"{time}_{re.sub(r'[^A-Za-z0-9-]', '-', suite)}_{log_id(measured, suite)}.json"


def log_id(measured: Measured, suite: str) -> str:
    """Return the id of a log: the same model, suite, settings and time give the same."""
    return hashlib.sha256(repr((measured, suite)).encode()).hexdigest()[:_ID_DIGITS]


def _metrics(result: SuiteResult) -> Mapping[str, float]:
    """Return the measures under the names that the tables of this kit have; what is undefined is left out."""
    passes = {f"pass@{count}": interval.mean for count, interval in result.pass_at.items()}
    metrics = {f"mean@{result.samples}": result.mean, "95 % low": result.low, "95 % high": result.high, **passes}
    return {name: value for name, value in metrics.items() if value == value}


def _samples(measured: Measured, judgements: Sequence[Judgement]) -> list[JsonObject]:
    epochs: Counter[str] = Counter()
    samples = []
    for one in judgements:
        epochs[one.problem.id] += 1
        samples.append(_sample(measured, one, epochs[one.problem.id]))
    return samples


def _sample(measured: Measured, one: Judgement, epoch: int) -> JsonObject:
    completion, verdict = one.completion, one.verdict
    asked = [{"role": message["role"], "content": message["content"]} for message in one.problem.messages]
    answered = {"role": "assistant", "content": completion.text, "source": "generate", "model": measured.model}
    score = {
        "value": "C" if verdict.success else "I",
        "answer": verdict.answer,
        "explanation": verdict.feedback or None,
        "metadata": {"score": verdict.score, "status": verdict.status},
    }
    return {
        "id": one.problem.id,
        "epoch": epoch,
        "input": asked,
        "target": one.problem.answer,
        "messages": [*asked, answered],
        "output": {
            "model": measured.model,
            "choices": [{"message": answered, "stop_reason": _STOP_REASONS[completion.finish_reason]}],
            "usage": {
                "input_tokens": len(completion.prompt_ids),
                "output_tokens": len(completion.token_ids),
                "total_tokens": len(completion.prompt_ids) + len(completion.token_ids),
            },
        },
        "scores": {} if verdict.status == "error" else {measured.verifier: score},
        "metadata": {"suite": one.problem.suite, "verdict": verdict.status},
    }
