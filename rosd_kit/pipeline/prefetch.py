"""The next batch, sampled while the present one is trained on, and how it is kept in a checkpoint.

Knows neither how a batch is made nor what is done with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter

from rosd_kit.types import Problem, StepBatch


class Prefetcher:
    """At most one batch ahead: `begin` it, `wait` for it before the weights that it is sampled with change, `take` it."""

    def __init__(self, sample: Callable[[int], StepBatch], *, enabled: bool) -> None:
        self.enabled = enabled
        self._sample = sample
        self._ready: tuple[int, StepBatch] | None = None
        self._coming: tuple[int, Future[StepBatch]] | None = None
        # As many threads of torch as here, on which the last bits of its sums depend.
        self._thread = ThreadPoolExecutor(1, "rosd-kit-ahead", torch.set_num_threads, (torch.get_num_threads(),))

    def begin(self, step: int) -> None:
        """Begin to sample the batch of a step, if that is wanted."""
        if self.enabled:
            assert self._coming is None and self._ready is None, "one batch at a time"
            self._coming = (step, self._thread.submit(self._sample, step))

    def wait(self) -> float:
        """Wait until the batch that was begun is there; return the seconds. Raises what went wrong with it."""
        began = time.perf_counter()
        if self._coming is not None:
            (step, coming), self._coming = self._coming, None
            self._ready = (step, coming.result())
        return time.perf_counter() - began

    def take(self, step: int) -> StepBatch | None:
        """Return the batch of a step if there is one."""
        found, self._ready = self._ready, None
        return found[1] if found is not None and found[0] == step else None

    def state(self) -> Any:
        """Return the batch that waits to be trained on as plain values, or None.

        A resumed run could not sample it again, because the weights that it was sampled with are gone.
        """
        if self._ready is None:
            return None
        step, batch = self._ready
        plain = _with_problems(batch, lambda problem: replace(problem, meta={}))
        return {"step": step, "batch": _batches().dump_python(plain, mode="json")}

    def load_state(self, state: Any, problems: Callable[[int], Sequence[Problem]]) -> None:
        """Put back what `state` returned; `problems` gives those of a step, whose `meta` may hold anything and was not kept."""
        if state:
            known = {problem.id: problem for problem in problems(state["step"])}
            batch = _batches().validate_python(state["batch"])
            self._ready = (state["step"], _with_problems(batch, lambda problem: known[problem.id]))

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _with_problems(batch: StepBatch, chosen: Callable[[Problem], Problem]) -> StepBatch:
    """Return the batch with other problems in the places of its own."""
    return replace(
        batch,
        groups=tuple(replace(group, problem=chosen(group.problem)) for group in batch.groups),
        traces=tuple(replace(t, case=replace(t.case, problem=chosen(t.case.problem))) for t in batch.traces),
    )


@cache
def _batches() -> TypeAdapter[StepBatch]:
    return TypeAdapter(StepBatch)
