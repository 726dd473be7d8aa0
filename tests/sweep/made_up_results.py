"""Writes sweep stores with made-up results, so that the correct report is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.plan import Plan, write_plan
from rosd_kit.sweep.store import Store

SUITES = {"sums": True, "coins": False, "clock": False}
MADE_WITH = {"python": "3", "versions": {}, "model": "m", "device": "cpu", "threads": 1, "source": "s"}
Score = Callable[[int, int, str, int], float]


def evaluation(step: int, score: Callable[[str, int], float], problems: int) -> dict:
    results = []
    for suite, in_domain in SUITES.items():
        scores = {f"{suite}-{index}": score(suite, index) for index in range(problems)}
        mean = sum(scores.values()) / problems
        numbers = {"mean": mean, "low": mean, "high": mean, "format_rate": 1.0, "mean_tokens": 9.0}
        results.append(SuiteResult(suite=suite, in_domain=in_domain, problems=problems, samples=1, scores=scores, **numbers))
    return {"step": step, "results": [result.to_json() for result in results]}


def finish(
    folder: Path, plan: Plan, score: Score, *, problems: int = 16, leave: int = 0, made_with: dict | None = None
) -> None:
    """Write a plan into a store and finish all but the last `leave` trials.

    `score` is called with the indices of the combination and seed, the suite and the index of the problem.
    """
    with Store(folder, create=True) as store:
        write_plan(plan, store, [])
        for trial in plan.trials[: len(plan.trials) - leave]:
            holder = LeaseHolder.this_process()
            assert store.claim([trial.id], holder, 60) is not None
            before = evaluation(0, lambda suite, index: float(index % 2), problems)
            after = evaluation(2, lambda suite, index, t=trial: score(t.combination, t.seed, suite, index), problems)
            result = {"evaluations": [before, after], "resumed": False, "seconds": 60.0, "warnings": []}
            store.finish(trial.id, holder.token, {**result, "made_with": {**MADE_WITH, **(made_with or {})}})
            records = folder / "trials" / trial.id
            records.mkdir(parents=True)
            lines = [json.dumps({"step": step, "rollout/success": 0.1 * step + 0.05 * trial.combination}) for step in (1, 2)]
            (records / "metrics.jsonl").write_text("\n".join(lines) + "\n")
