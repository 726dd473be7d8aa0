"""Stores of sweeps whose results are made up, so that what must come out of them is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.plan import Plan, write_plan
from rosd_kit.sweep.store import Store

SUITES = {"sums": True, "coins": False, "clock": False}
MADE_WITH = {"python": "3", "versions": {}, "model": "m", "device": "cpu", "threads": 1, "source": "s"}
Score = Callable[[int, int, str, int], float]


def evaluation(step: int, score: Callable[[str, int], float], problems: int) -> dict:
    results = []
    for suite, in_domain in SUITES.items():
        scores = {f"{suite}-{place}": score(suite, place) for place in range(problems)}
        mean = sum(scores.values()) / problems
        numbers = {"mean": mean, "low": mean, "high": mean, "format_rate": 1.0, "mean_tokens": 9.0}
        results.append(SuiteResult(suite=suite, in_domain=in_domain, problems=problems, samples=1, scores=scores, **numbers))
    return {"step": step, "results": [result.to_json() for result in results]}


def finish(
    folder: Path, plan: Plan, score: Score, *, problems: int = 16, leave: int = 0, made_with: dict | None = None
) -> None:
    """Write a plan into a store and finish all but the last `leave` trials; `score` gets cell, seed, suite and problem."""
    with Store(folder, create=True) as store:
        write_plan(plan, store, [])
        for trial in plan.trials[: len(plan.trials) - leave]:
            me = Owner.me()
            assert store.claim([trial.id], me, 60) is not None
            before = evaluation(0, lambda suite, place: float(place % 2), problems)
            after = evaluation(2, lambda suite, place, t=trial: score(t.cell, t.seed, suite, place), problems)
            result = {"evaluations": [before, after], "resumed": False, "seconds": 60.0, "warnings": []}
            store.finish(trial.id, me.token, {**result, "made_with": {**MADE_WITH, **(made_with or {})}})
            records = folder / "trials" / trial.id
            records.mkdir(parents=True)
            lines = [json.dumps({"step": step, "rollout/success": 0.1 * step + 0.05 * trial.cell}) for step in (1, 2)]
            (records / "metrics.jsonl").write_text("\n".join(lines) + "\n")
