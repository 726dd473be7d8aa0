"""Evaluates a model on every held-out suite of a task, in one batch of requests.

Knows the task, verifier and engine contracts; does not know the metrics' formulas or training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import nan

from rosd_kit.contracts import RolloutEngine, Task, Verifier
from rosd_kit.errors import RunError
from rosd_kit.evaluation.collapse_metrics import sampled_entropy
from rosd_kit.evaluation.formulas import majority_scores, mean_distinct_bigrams, pass_scores
from rosd_kit.evaluation.inspect_log import Judgement
from rosd_kit.evaluation.intervals import Interval, bootstrap_mean, cluster_means
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.faults import Faults, check_traits, check_verdicts
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import EvaluationSettings, SamplingSettings
from rosd_kit.text.leaks import leaks
from rosd_kit.types import Completion, GenerateRequest, Message, Problem, Sampling, Verdict

__all__ = ["Comparison", "SuiteResult", "compare", "evaluate_suites", "evaluation_sampling"]

_UNDEFINED = Interval(mean=nan, low=nan, high=nan)


def evaluate_suites(
    *,
    task: Task,
    engine: RolloutEngine,
    verifier: Verifier,
    prompt_ids: Callable[[Sequence[Message]], tuple[int, ...]],
    settings: EvaluationSettings,
    training: SamplingSettings,
    ranks: Ranks | None = None,
    faults: Faults | None = None,
    begins_in_thinking: bool = False,
    judged: Callable[[SuiteResult, Sequence[Judgement]], None] = lambda result, judgements: None,
) -> tuple[SuiteResult, ...]:
    """Return the measures of every suite, in the task's order; nothing if `problems` is 0.

    Options of `settings` that are null are those of `training`. Problems and seeds depend only on the settings, so two calls
    are paired sample by sample. All suites go to the engine in one call. A prompt that the engine rejects (`overlong`) counts
    as wrong, with no tokens. If the verifier raises, its verdict counts as status `error`, and `faults` records it.

    `begins_in_thinking` says that the chat template opens a thinking block at the end of the prompts.

    `judged` is given every suite's responses with its result, in the order of the problems.

    With several `ranks`, each generates its share; the main rank judges all completions and returns the results, the others
    return nothing.

    Raises `RunError` if the task returns an empty suite or a duplicate problem id, and the verifier's own error if it raised
    on every response.
    """
    if settings.problems == 0:
        return ()
    sampling = evaluation_sampling(settings, training)
    suites = task.suites(count=settings.problems, seed=settings.seed)
    _check(task, suites)
    requests = [
        request
        for problems in suites.values()
        for problem in problems
        for request in _requests(problem, prompt_ids(problem.messages), settings, sampling)
    ]
    generated = _generate(engine, requests, settings.samples, ranks)
    if ranks is not None and not ranks.is_main:
        return ()
    if begins_in_thinking:
        generated = [replace(completion, begins_in_thinking=True) for completion in generated]
    completions, faults = iter(generated), Faults() if faults is None else faults
    results = tuple(
        _measure(
            suite,
            [(problem, next(completions)) for problem in problems for _ in range(settings.samples)],
            in_domain=suite in task.in_domain(),
            task=task,
            verifier=verifier,
            settings=settings,
            faults=faults,
            judged=judged,
        )
        for suite, problems in suites.items()
    )
    faults.raise_if_all_failed()
    return results


def evaluation_sampling(settings: EvaluationSettings, training: SamplingSettings) -> Sampling:
    """Return how evaluations sample; options that are null are as while training."""
    stop = training.stop if settings.stop is None else settings.stop
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=training.top_k if settings.top_k is None else settings.top_k,
        min_p=training.min_p if settings.min_p is None else settings.min_p,
        stop=tuple(stop),
        max_new_tokens=settings.max_new_tokens or training.max_new_tokens,
    )


def _generate(
    engine: RolloutEngine, requests: Sequence[GenerateRequest], samples: int, ranks: Ranks | None
) -> list[Completion]:
    """Return the completions in the order of the requests; each problem has `samples` consecutive ones."""
    if ranks is None:
        return engine.generate(requests)
    problems = range(0, len(requests), samples)
    own = [request for index in ranks.assigned_indices(len(problems)) for request in requests[problems[index] :][:samples]]
    shares = [iter(share) for share in ranks.gather(engine.generate(own))]
    return [next(shares[index // samples % ranks.count]) for index in range(len(requests))]


def _requests(
    problem: Problem, prompt: tuple[int, ...], settings: EvaluationSettings, sampling: Sampling
) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=stable_seed("evaluation", settings.seed, problem.id, index))
        for index in range(settings.samples)
    ]


def _measure(
    suite: str,
    responses: Sequence[tuple[Problem, Completion]],
    *,
    in_domain: bool,
    task: Task,
    verifier: Verifier,
    settings: EvaluationSettings,
    faults: Faults,
    judged: Callable[[SuiteResult, Sequence[Judgement]], None],
) -> SuiteResult:
    """Judge one suite's completions and compute its measures.

    Samples on which the verifier failed count as neither right nor wrong, and are reported separately.
    """
    verdicts = [_verdict(verifier, problem, completion, faults) for problem, completion in responses]
    valid = [(p.id, v) for (p, _), v in zip(responses, verdicts, strict=True) if v.status != "error"]
    ids, correct = [id for id, _ in valid], [float(verdict.success) for _, verdict in valid]
    completions = [completion for _, completion in responses]
    scores = cluster_means(correct, ids)
    accuracy = bootstrap_mean(list(scores.values()), seed=settings.seed) if valid else _UNDEFINED
    result = SuiteResult(
        suite=suite,
        in_domain=in_domain,
        mean=accuracy.mean,
        low=accuracy.low,
        high=accuracy.high,
        problems=len({problem.id for problem, _ in responses}),
        samples=settings.samples,
        format_rate=sum(v.status == "ok" for _, v in valid) / len(valid) if valid else nan,
        mean_tokens=sum(len(c.token_ids) for c in completions) / len(completions),
        scores=scores,
        failed=dict(Counter(p.id for (p, _), v in zip(responses, verdicts, strict=True) if v.status == "error")),
        pass_at=_pass_at(correct, ids, settings),
        majority=_majority(valid, settings),
        bigrams=mean_distinct_bigrams([c.token_ids for c in completions], [p.id for p, _ in responses]),
        entropy=sampled_entropy(completions),
        leaks=sum(leaks(completion.text) for completion in completions) / len(completions),
        truncated=sum(completion.finish_reason == "length" for completion in completions),
        traits=_traits(task, responses, faults),
    )
    pairs = zip(responses, verdicts, strict=True)
    judged(result, [Judgement(problem=p, completion=c, verdict=verdict) for (p, c), verdict in pairs])
    return result


def _traits(task: Task, responses: Sequence[tuple[Problem, Completion]], faults: Faults) -> dict[str, float]:
    """Return the mean of each trait over the samples that have it."""
    if type(task).traits is Task.traits:
        return {}
    values: dict[str, list[float]] = {}
    for problem, completion in responses:
        measured = faults.attempt(task, f"problem {problem.id!r}", partial(task.traits, problem, completion.text), check_traits)
        for name, value in (measured or {}).items():
            values.setdefault(name, []).append(float(value))
    return {name: sum(found) / len(found) for name, found in values.items()}


def _verdict(verifier: Verifier, problem: Problem, completion: Completion, faults: Faults) -> Verdict:
    verdicts = faults.attempt(
        verifier, f"problem {problem.id!r}", lambda: [verifier.judge(problem, completion)], check_verdicts(1)
    )
    return verdicts[0] if verdicts else Verdict(score=0.0, success=False, status="error")


def _pass_at(correct: Sequence[float], ids: Sequence[str], settings: EvaluationSettings) -> dict[str, Interval]:
    """Return pass@j for j = 1, 2, 4, ... and k, over the problems with at least j judged samples."""
    most = max(Counter(ids).values(), default=0)
    sizes = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), settings.samples} - {0})
    return {str(k): bootstrap_mean(pass_scores(correct, ids, k), seed=settings.seed) for k in sizes if k <= most}


def _majority(judged: Sequence[tuple[str, Verdict]], settings: EvaluationSettings) -> Interval | None:
    """Return majority@k, or None if the verifier parsed a wrong answer without reporting it."""
    if not judged or any(v.status == "ok" and not v.success and v.answer is None for _, v in judged):
        return None
    answers, correct = [verdict.answer for _, verdict in judged], [float(verdict.success) for _, verdict in judged]
    return bootstrap_mean(majority_scores(answers, correct, [id for id, _ in judged]), seed=settings.seed)


def _check(task: Task, suites: Mapping[str, Sequence[Problem]]) -> None:
    for suite, problems in suites.items():
        if not problems:
            raise RunError(f"task {task.name!r}: suite {suite!r} has no problems. Return only suites with problems.")
        ids = [problem.id for problem in problems]
        if len(set(ids)) < len(ids):
            duplicate = next(id for id in ids if ids.count(id) > 1)
            raise RunError(f"task {task.name!r}: suite {suite!r} contains the id {duplicate!r} twice. Make the ids unique.")
