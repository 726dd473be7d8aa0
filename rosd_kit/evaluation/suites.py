"""Measures the student on every held-out suite of a task, in one batch of requests.

Knows the task, verifier and engine contracts; knows no metric's formula and nothing of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import nan

from rosd_kit.contracts import RolloutEngine, Task, Verifier
from rosd_kit.errors import RunError
from rosd_kit.evaluation.collapse_metrics import sampled_entropy
from rosd_kit.evaluation.intervals import Interval, clustered
from rosd_kit.evaluation.metrics import compute
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.faults import Faults, check_verdicts
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import EvaluationSettings
from rosd_kit.text.leaks import leaks
from rosd_kit.types import Completion, GenerateRequest, Message, Problem, Sampling, Verdict

__all__ = ["Comparison", "SuiteResult", "compare", "evaluate_suites"]

_UNKNOWN = {"mean_at_k": nan, "low": nan, "high": nan}


def evaluate_suites(
    *,
    task: Task,
    engine: RolloutEngine,
    verifier: Verifier,
    prompt_ids: Callable[[Sequence[Message]], tuple[int, ...]],
    settings: EvaluationSettings,
    max_new_tokens: int,
    ranks: Ranks | None = None,
    faults: Faults | None = None,
) -> tuple[SuiteResult, ...]:
    """Return the measures of every suite, in the task's order; nothing when `problems` is 0.

    Problems and seeds depend on the settings alone, so two calls are paired sample by sample. All suites go to the
    engine in one call. A response that the engine refuses (`overlong`) counts as wrong, with no tokens. One at which the
    verifier raises is like one of which it says that it failed; `faults` is told of it. Raises `RunError` when the task gives
    an empty suite or one problem id twice, and the verifier's own error when it raised at everything.

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
    completions, faults = iter(answered), Faults() if faults is None else faults
    results = tuple(
        _measure(
            suite,
            [(problem, next(completions)) for problem in problems for _ in range(settings.samples)],
            in_domain=suite in task.in_domain(),
            verifier=verifier,
            settings=settings,
            faults=faults,
        )
        for suite, problems in suites.items()
    )
    faults.judge()
    return results


def _answers(engine: RolloutEngine, requests: Sequence[GenerateRequest], samples: int, ranks: Ranks | None) -> list[Completion]:
    """Return the completions in the order of the requests, of which `samples` in a row belong to one problem."""
    if ranks is None:
        return engine.generate(requests)
    problems = range(0, len(requests), samples)
    mine = [request for place in ranks.assigned_indices(len(problems)) for request in requests[problems[place] :][:samples]]
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
    faults: Faults,
) -> SuiteResult:
    """Judge one suite's completions and hand the verdicts to the metrics.

    What the verifier failed to judge counts as neither right nor wrong, and is told apart.
    """
    verdicts = [_verdict(verifier, problem, completion, faults) for problem, completion in answers]
    judged = [(p.id, v) for (p, _), v in zip(answers, verdicts, strict=True) if v.status != "error"]
    ids, right = [id for id, _ in judged], [float(verdict.success) for _, verdict in judged]
    completions = [completion for _, completion in answers]
    accuracy = compute("mean_at_k", predictions=right, references=ids, seed=settings.seed) if judged else _UNKNOWN
    return SuiteResult(
        suite=suite,
        in_domain=in_domain,
        mean=accuracy["mean_at_k"],
        low=accuracy["low"],
        high=accuracy["high"],
        problems=len({problem.id for problem, _ in answers}),
        samples=settings.samples,
        format_rate=compute("format_rate", predictions=[v.status for _, v in judged])["format_rate"] if judged else nan,
        mean_tokens=compute("mean_tokens", predictions=[len(c.token_ids) for c in completions])["mean_tokens"],
        scores={id: sum(own) / len(own) for id, own in clustered(right, ids).items()},
        failed=dict(Counter(p.id for (p, _), v in zip(answers, verdicts, strict=True) if v.status == "error")),
        pass_at=_passes(right, ids, settings),
        majority=_majority(judged, settings),
        bigrams=compute(
            "distinct_bigrams", predictions=[list(c.token_ids) for c in completions], references=[p.id for p, _ in answers]
        )["distinct_bigrams"],
        entropy=sampled_entropy(completions),
        leaks=sum(leaks(completion.text) for completion in completions) / len(completions),
    )


def _verdict(verifier: Verifier, problem: Problem, completion: Completion, faults: Faults) -> Verdict:
    found = faults.attempt(
        verifier, f"problem {problem.id!r}", lambda: [verifier.verify(problem, completion.text)], check_verdicts(1)
    )
    return found[0] if found else Verdict(score=0.0, success=False, status="error")


def _passes(right: Sequence[float], ids: Sequence[str], settings: EvaluationSettings) -> dict[str, Interval]:
    """Return pass@j for j = 1, 2, 4, ... and k, of the problems with j judged samples."""
    most = max(Counter(ids).values(), default=0)
    sizes = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), settings.samples} - {0})
    return {
        str(k): _interval(compute("pass_at_k", predictions=right, references=ids, k=k, seed=settings.seed), "pass_at_k")
        for k in sizes
        if k <= most
    }


def _majority(judged: Sequence[tuple[str, Verdict]], settings: EvaluationSettings) -> Interval | None:
    """Return majority@k, or None where a wrong answer was read that the verifier does not name."""
    if not judged or any(v.status == "ok" and not v.success and v.answer is None for _, v in judged):
        return None
    votes = [{"answer": verdict.answer or "", "right": float(verdict.success)} for _, verdict in judged]
    found = compute("majority_at_k", predictions=votes, references=[id for id, _ in judged], seed=settings.seed)
    return _interval(found, "majority_at_k")


def _interval(found: Mapping[str, float], name: str) -> Interval:
    return Interval(mean=found[name], low=found["low"], high=found["high"], worst_case=bool(found["worst_case"]))


def _check(task: Task, suites: Mapping[str, Sequence[Problem]]) -> None:
    for suite, problems in suites.items():
        if not problems:
            raise RunError(f"task {task.name!r}: suite {suite!r} has no problems. Leave it out of `suites`.")
        ids = [problem.id for problem in problems]
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise RunError(f"task {task.name!r}: suite {suite!r} holds the id {twice!r} twice. Ids must be unique.")
