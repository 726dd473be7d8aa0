"""Revised token weights on several ranks: every rank gets the same result, whichever rank called the localizer."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, get_ident
from typing import Any

import pytest
import torch

from rosd_kit.components.localizers import Full
from rosd_kit.errors import RunError
from rosd_kit.faults import Faults
from rosd_kit.parallel import ranks as ranks_module
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training.refine_weights import refine_weights
from rosd_kit.types import DistillSample, SampleScores, TeacherView

SAMPLE = DistillSample(
    problem_id="p", prompt_ids=(1,), response_ids=(2, 3), behaviour_logprobs=(-1.0, -1.0), token_weights=(1.0, 1.0),
    teacher_views=(TeacherView(prompt_ids=(4,), source="solution"),), reward=1.0, success=True, group_rewards=(1.0,),
)  # fmt: skip
SAMPLES = tuple(replace(SAMPLE, problem_id=f"p{i}") for i in range(4))
SCORES = [SampleScores(divergence=(0.5, 0.25), student=(-1.0, -1.0), teacher=(-1.0, -1.0))] * 4


class Flaky(Full):
    """Halves weights; fails on chosen samples, like a component that times out on one rank only."""

    refines = True

    def __init__(self, fails: Callable[[DistillSample], bool]) -> None:
        super().__init__()
        self.fails = fails

    def refine(self, sample: DistillSample, scores: SampleScores) -> tuple[float, ...]:
        if self.fails(sample):
            raise TimeoutError("no answer")
        return tuple(weight / 2 for weight in sample.token_weights)


@pytest.fixture
def on_two_ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Flaky]], list[Any]]:
    """Refine on two ranks, which are threads here; values are pickled between them as between processes."""
    barrier, values, rank_of = Barrier(2), [b"", b""], {}

    def gather(output: list[Any], value: Any, group: Any = None) -> None:
        values[rank_of[get_ident()]] = pickle.dumps(value)
        barrier.wait(30)
        output[:] = map(pickle.loads, values)
        barrier.wait(30)

    monkeypatch.setattr(ranks_module.dist, "all_gather_object", gather)

    def run(localizers: list[Flaky]) -> list[Any]:
        def one(rank: int) -> Any:
            rank_of[get_ident()] = rank
            try:
                return refine_weights(SAMPLES, localizers[rank], SCORES, Ranks(device=torch.device("cpu"), rank=rank, count=2))
            except Exception as error:
                return error

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(one, range(2)))

    return run


def weights(answer: tuple[tuple[DistillSample, ...], Faults]) -> list[tuple[float, ...]]:
    return [sample.token_weights for sample in answer[0]]


def test_a_failure_on_one_rank_counts_on_all(on_two_ranks: Callable[[list[Flaky]], list[Any]]) -> None:
    first, second = on_two_ranks([Flaky(lambda s: False), Flaky(lambda s: s.problem_id in ("p0", "p1"))])
    assert weights(first) == weights(second) == [(0.5, 0.5), (0.0, 0.0), (0.5, 0.5), (0.5, 0.5)]
    assert [sample.problem_id for sample in first[0]] == ["p0", "p1", "p2", "p3"]
    message = ("localizer 'full' failed on one; first on a rollout of problem 'p1': TimeoutError: no answer",)
    assert first[1].messages() == second[1].messages() == message


def test_a_localizer_that_always_fails_ends_every_rank_with_its_own_error(
    on_two_ranks: Callable[[list[Flaky]], list[Any]],
) -> None:
    for error in on_two_ranks([Flaky(lambda s: True), Flaky(lambda s: True)]):
        assert isinstance(error, TimeoutError) and "localizer 'full' failed on 4 of 4" in error.__notes__[0]


def test_a_rank_without_errors_of_its_own_ends_too(
    on_two_ranks: Callable[[list[Flaky]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "assigned_indices", lambda self, count: range(count) if self.rank else range(0))
    first, second = on_two_ranks([Flaky(lambda s: False), Flaky(lambda s: True)])
    assert isinstance(first, RunError) and "failed on 4 of 4" in str(first)
    assert isinstance(second, TimeoutError)
