"""A localizer's second word in several processes: one answer for all, whoever asked for it."""

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
from rosd_kit.parallel import ranks as talking
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training.refine_weights import refined
from rosd_kit.types import DistillSample, SampleScores, TeacherView

SAMPLE = DistillSample(
    problem_id="p", prompt_ids=(1,), response_ids=(2, 3), behaviour_logprobs=(-1.0, -1.0), token_weights=(1.0, 1.0),
    teacher_views=(TeacherView(prompt_ids=(4,), source="solution"),), reward=1.0, success=True, group_rewards=(1.0,),
)  # fmt: skip
SAMPLES = tuple(replace(SAMPLE, problem_id=f"p{i}") for i in range(4))
SCORES = [SampleScores(divergence=(0.5, 0.25), student=(-1.0, -1.0), teacher=(-1.0, -1.0))] * 4


class Flaky(Full):
    """Halves weights; fails at the samples that it is told to, as a part does that is slow in one process only."""

    refines = True

    def __init__(self, fails: Callable[[DistillSample], bool]) -> None:
        super().__init__()
        self.fails = fails

    def refine(self, sample: DistillSample, scores: SampleScores) -> tuple[float, ...]:
        if self.fails(sample):
            raise TimeoutError("no answer")
        return tuple(weight / 2 for weight in sample.token_weights)


@pytest.fixture
def in_two(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Flaky]], list[Any]]:
    """Refine in two processes, which are threads here; what they tell each other is pickled as it is between processes."""
    meet, told, numbers = Barrier(2), [b"", b""], {}

    def gather(found: list[Any], value: Any, group: Any = None) -> None:
        told[numbers[get_ident()]] = pickle.dumps(value)
        meet.wait(30)
        found[:] = map(pickle.loads, told)
        meet.wait(30)

    monkeypatch.setattr(talking.dist, "all_gather_object", gather)

    def run(localizers: list[Flaky]) -> list[Any]:
        def one(rank: int) -> Any:
            numbers[get_ident()] = rank
            try:
                return refined(SAMPLES, localizers[rank], SCORES, Ranks(device=torch.device("cpu"), rank=rank, count=2))
            except Exception as error:
                return error

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(one, range(2)))

    return run


def weights(answer: tuple[tuple[DistillSample, ...], Faults]) -> list[tuple[float, ...]]:
    return [sample.token_weights for sample in answer[0]]


def test_a_part_that_fails_in_one_process_only_fails_for_all(in_two: Callable[[list[Flaky]], list[Any]]) -> None:
    first, second = in_two([Flaky(lambda s: False), Flaky(lambda s: s.problem_id in ("p0", "p1"))])
    assert weights(first) == weights(second) == [(0.5, 0.5), (0.0, 0.0), (0.5, 0.5), (0.5, 0.5)]
    assert [sample.problem_id for sample in first[0]] == ["p0", "p1", "p2", "p3"]
    told = ("localizer 'full' failed on one; first on a rollout of problem 'p1': TimeoutError: no answer",)
    assert first[1].told() == second[1].told() == told


def test_a_part_that_fails_at_everything_ends_all_and_its_own_error_is_told_where_it_was(
    in_two: Callable[[list[Flaky]], list[Any]],
) -> None:
    for error in in_two([Flaky(lambda s: True), Flaky(lambda s: True)]):
        assert isinstance(error, TimeoutError) and "localizer 'full' failed on 4 of 4" in error.__notes__[0]


def test_a_process_that_saw_no_error_ends_too(
    in_two: Callable[[list[Flaky]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "share", lambda self, items: range(items) if self.rank else range(0))
    first, second = in_two([Flaky(lambda s: False), Flaky(lambda s: True)])
    assert isinstance(first, RunError) and "failed on 4 of 4" in str(first)
    assert isinstance(second, TimeoutError)
