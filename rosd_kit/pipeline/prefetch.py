"""Prefetches the next batch while the current one trains (one step off-policy), and keeps it across checkpoints.

Knows neither how a batch is made nor what it is used for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import torch
from pydantic import TypeAdapter

from rosd_kit.parallel.devices import same_device
from rosd_kit.types import JsonObject, Problem, StepBatch


class Prefetcher:
    """Samples one batch ahead in a thread: `begin` it, `wait` for it before its weights change, `take` it."""

    def __init__(self, sample: Callable[[int], StepBatch], *, enabled: bool) -> None:
        self.enabled = enabled
        self._sample = sample
        self._ready: tuple[int, StepBatch] | None = None
        self._coming: tuple[int, Future[StepBatch]] | None = None
        self._thread = ThreadPoolExecutor(1, "rosd-kit-prefetch", _begin_thread, (torch.get_num_threads(), same_device()))

    def begin(self, step: int) -> None:
        """Start sampling the batch of a step, if prefetching is enabled."""
        if self.enabled:
            assert self._coming is None and self._ready is None, "one batch at a time"
            self._coming = (step, self._thread.submit(self._sample, step))

    def wait(self) -> float:
        """Wait for the batch that `begin` started; return the seconds. Raises what its sampling raised."""
        began = time.perf_counter()
        if self._coming is not None:
            (step, coming), self._coming = self._coming, None
            self._ready = (step, coming.result())
        return time.perf_counter() - began

    def take(self, step: int) -> StepBatch | None:
        """Return the batch of a step if it was prefetched, else None."""
        found, self._ready = self._ready, None
        return found[1] if found is not None and found[0] == step else None

    def state(self) -> JsonObject | None:
        """Return the batch that waits for training as plain values, or None.

        A resumed run could not sample it again: the weights it was sampled with are gone.
        """
        if self._ready is None:
            return None
        step, batch = self._ready
        plain = _with_problems(batch, lambda problem: replace(problem, meta={}))
        return {"step": step, "batch": _batches().dump_python(plain, mode="json")}

    def load_state(self, state: JsonObject | None, problems: Callable[[int], Sequence[Problem]]) -> None:
        """Restore what `state` returned. `problems` returns the problems of a step: their `meta` is not saved."""
        if state:
            known = {problem.id: problem for problem in problems(state["step"])}
            batch = _batches().validate_python(state["batch"])
            self._ready = (state["step"], _with_problems(batch, lambda problem: known[problem.id]))

    def close(self) -> None:
        """Start nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _begin_thread(threads: int, use_device: Callable[[], None]) -> None:
    torch.set_num_threads(threads)  # the last bits of torch's sums depend on their number
    use_device()


def _with_problems(batch: StepBatch, chosen: Callable[[Problem], Problem]) -> StepBatch:
    """Return the batch with each problem replaced by `chosen(problem)`."""
    return replace(
        batch,
        groups=tuple(replace(group, problem=chosen(group.problem)) for group in batch.groups),
        traces=tuple(replace(t, case=replace(t.case, problem=chosen(t.case.problem))) for t in batch.traces),
    )


@cache
def _batches() -> TypeAdapter[StepBatch]:
    return TypeAdapter(StepBatch)
