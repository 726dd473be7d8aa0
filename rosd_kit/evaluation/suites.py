"""Measures the student on every held-out suite of a task, in one batch of requests.

Knows the task, verifier and engine contracts; knows no metric's formula and nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rosd_kit.contracts import RolloutEngine, Task, Verifier
from rosd_kit.errors import RunError
from rosd_kit.evaluation.metrics import compute
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import EvaluationSettings
from rosd_kit.train.ranks import Ranks
from rosd_kit.types import Completion, GenerateRequest, Message, Problem, Sampling

__all__ = ["Comparison", "SuiteResult", "compare", "evaluate_suites"]


def evaluate_suites(
    *,
    task: Task,
    engine: RolloutEngine,
    verifier: Verifier,
    prompt_ids: Callable[[Sequence[Message]], tuple[int, ...]],
    settings: EvaluationSettings,
    max_new_tokens: int,
    ranks: Ranks | None = None,
) -> tuple[SuiteResult, ...]:
    """Return mean@k, format rate and length of every suite, in the task's order; nothing when `problems` is 0.

    Problems and seeds depend on the settings alone, so two calls are paired sample by sample. All suites go to the
    engine in one call. A response that the engine refuses (`overlong`) counts as wrong, with no tokens. Raises
    `RunError` when the task gives an empty suite or one problem id twice.

    With several `ranks` each has its share answered, and the main process judges and returns the whole; others nothing.
    """
    if settings.problems == 0:
        return ()
    suites = task.suites(count=settings.problems, seed=settings.seed)
    _check(task, suites)
    requests = [
        request
        for problems in suites.values()
        for problem in problems
        for request in _requests(problem, prompt_ids(problem.messages), settings, max_new_tokens)
    ]
    answered = _answers(engine, requests, settings.samples, ranks)
    if ranks is not None and not ranks.is_main:
        return ()
    completions = iter(answered)
    return tuple(
        _measure(
            suite,
            [(problem, next(completions)) for problem in problems for _ in range(settings.samples)],
            in_domain=suite in task.in_domain(),
            verifier=verifier,
            settings=settings,
        )
        for suite, problems in suites.items()
    )


def _answers(engine: RolloutEngine, requests: Sequence[GenerateRequest], samples: int, ranks: Ranks | None) -> list[Completion]:
    """Return the completions in the order of the requests, of which `samples` in a row belong to one problem."""
    if ranks is None:
        return engine.generate(requests)
    problems = range(0, len(requests), samples)
    mine = [request for place in ranks.share(len(problems)) for request in requests[problems[place] :][:samples]]
    shares = [iter(share) for share in ranks.gather(engine.generate(mine))]
    return [next(shares[place // samples % ranks.count]) for place in range(len(requests))]


def _requests(
    problem: Problem, prompt: tuple[int, ...], settings: EvaluationSettings, max_new_tokens: int
) -> list[GenerateRequest]:
    sampling = Sampling(temperature=settings.temperature, top_p=settings.top_p, max_new_tokens=max_new_tokens)
    return [
        GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=stable_seed("evaluation", settings.seed, problem.id, index))
        for index in range(settings.samples)
    ]


def _measure(
    suite: str,
    answers: Sequence[tuple[Problem, Completion]],
    *,
    in_domain: bool,
    verifier: Verifier,
    settings: EvaluationSettings,
) -> SuiteResult:
    """Judge one suite's completions and hand the verdicts to the metrics."""
    ids = [problem.id for problem, _ in answers]
    verdicts = [verifier.verify(problem, completion.text) for problem, completion in answers]
    right = [float(verdict.success) for verdict in verdicts]
    accuracy = compute("mean_at_k", predictions=right, references=ids, seed=settings.seed)
    scores = dict.fromkeys(ids, 0.0)
    for id, value in zip(ids, right, strict=True):
        scores[id] += value / settings.samples
    return SuiteResult(
        suite=suite,
        in_domain=in_domain,
        mean=accuracy["mean_at_k"],
        low=accuracy["low"],
        high=accuracy["high"],
        problems=len(scores),
        samples=settings.samples,
        format_rate=compute("format_rate", predictions=[v.status for v in verdicts])["format_rate"],
        mean_tokens=compute("mean_tokens", predictions=[len(c.token_ids) for _, c in answers])["mean_tokens"],
        scores=scores,
    )


def _check(task: Task, suites: Mapping[str, Sequence[Problem]]) -> None:
    for suite, problems in suites.items():
        if not problems:
            raise RunError(f"task {task.name!r}: suite {suite!r} has no problems. Leave it out of `suites`.")
        ids = [problem.id for problem in problems]
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise RunError(f"task {task.name!r}: suite {suite!r} holds the id {twice!r} twice. Ids must be unique.")
