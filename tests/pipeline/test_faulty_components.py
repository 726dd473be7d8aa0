"""Components that fail where `faults/test_hostile_plugins.py` does not look: a task's oracle, an objective's weights."""

from __future__ import annotations

import pytest

from rosd_kit.types import FirstError


def failing(part, method, bad, every):
    """Let a part misbehave at every so manieth call of a method."""
    own, calls = getattr(part, method), []

    def call(*args):
        calls.append(args)
        return bad() if len(calls) % every == 0 else own(*args)

    setattr(part, method, call)


def raises():
    raise KeyError("no such row")


@pytest.mark.parametrize("bad", [raises, lambda: "an error", lambda: FirstError(status="error", start=5, end=10_000)])
def test_an_oracle_that_fails_at_a_response_knows_nothing_of_it(make_pipeline, bad):
    pipeline = make_pipeline("rosd", "gate=all")
    problems = pipeline.components.task.train_batch(step=0, count=4, seed=0)
    whole = pipeline.step(problems, 0)
    failing(pipeline.components.task, "first_error", bad, every=2)
    step = pipeline.step(problems, 0)
    asked = len(whole.traces)
    assert step.metrics["fault/task"] == asked // 2 >= 1
    assert [trace.sample for trace in step.traces] == [trace.sample for trace in whole.traces]
    assert [trace.case.truth is None for trace in step.traces] == [place % 2 == 1 for place in range(asked)]
    assert any(told.startswith("task 'micro' failed on") for told in step.faults)


@pytest.mark.parametrize("bad", [raises, lambda: (1.0,), lambda: [float("nan")] * 3, lambda: None])
def test_an_objective_that_fails_at_a_sample_costs_it(make_pipeline, bad):
    pipeline = make_pipeline("rosd", "gate=all")
    problems = pipeline.components.task.train_batch(step=0, count=4, seed=0)
    whole = len(pipeline.step(problems, 0).samples)
    (term,) = pipeline.components.objectives
    failing(term.objective, "token_weights", bad, every=3)
    step = pipeline.step(problems, 0)
    assert step.metrics["fault/objective"] >= 1
    assert len(step.samples) == whole - step.metrics["fault/objective"]
