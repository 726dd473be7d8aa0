"""The processes of a run: how many there are, which one this is, and what they tell each other.

One process is the ordinary case and needs no communication. Several are started by `torchrun` or `accelerate launch` and
found through accelerate. Knows nothing of models.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from rosd_kit.errors import RunError
from rosd_kit.settings import ParallelSettings

T = TypeVar("T")
Mode = Literal["single", "ddp", "fsdp"]

#: Gradients are added up in pieces of about this size, so that no second copy of all of them is needed.
_BUCKET_BYTES = 64 << 20
#: Seconds that a process which lost another waits before it ends too, so that the launcher, which counts in seconds, blames
#: the right one.
_LATER = 2.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of a run, each with one device. `local` is this one's number among the `neighbours` on its machine.

    Every method but `share` and `failing` must be called by all of them, in one order.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    local: int = 0
    neighbours: int = 1
    mode: Mode = "single"
    patience: timedelta = timedelta(hours=1)
    _talk: Any = None

    @classmethod
    def start(cls, settings: ParallelSettings, device: Literal["auto", "cpu", "cuda"] = "auto") -> Ranks:
        """Join the processes that a launcher started, or stand alone.

        Raises `RunError` when they are not as many, or do not work together in the way, that the recipe asks for.
        """
        patience = timedelta(minutes=settings.timeout_minutes)
        state = PartialState(cpu=device == "cpu", timeout=patience)
        count = state.num_processes
        if device == "cuda" and state.device.type != "cuda":
            raise RunError("model.device: 'cuda' was asked for, but torch sees no GPU. Use auto or cpu.")
        mode = _mode(settings, count)
        return cls(
            device=state.device,
            rank=state.process_index,
            count=count,
            local=state.local_process_index,
            neighbours=int(os.environ.get("LOCAL_WORLD_SIZE", count)) if count > 1 else 1,
            mode=mode,
            patience=patience,
        ).apart()

    @classmethod
    def alone(cls, device: Literal["auto", "cpu", "cuda"] = "auto") -> Ranks:
        """Stand alone, for what one process does. Raises `RunError` under a launcher that started several."""
        return cls.start(ParallelSettings(mode="single"), device)

    def apart(self) -> Ranks:
        """Return the same processes on a line of their own, so that a second thread may use it beside the first."""
        return replace(self, _talk=dist.new_group(backend="gloo", timeout=self.patience)) if self.count > 1 else self

    @property
    def is_main(self) -> bool:
        """Whether this process writes and shows what there is to write and show."""
        return self.rank == 0

    def share(self, items: int) -> range:
        """Return which of so many items this process works on."""
        return range(self.rank, items, self.count)

    def gather(self, value: T) -> list[T]:
        """Return every process's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self._talk)
        values[self.rank] = value  # what cannot be told to others, such as the errors of parts, is kept here
        return values

    def from_main(self, value: T) -> T:
        """Return the main process's value."""
        return self.gather(value)[0]

    def any(self, value: bool) -> bool:
        """Return whether it is so in any process."""
        return any(self.gather(value))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Add each tensor up over all processes, in place."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, total in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Tell the launcher why this process ends, so that it names the first that failed; a lost peer is a `RunError`."""
        try:
            yield
        except Exception as error:
            if self.count == 1:
                raise
            told: Exception = error
            if _is_lost(error):
                told = self._lost(error)
                with suppress(ValueError):  # outside the main thread
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends the others; let this one say its word
                time.sleep(_LATER)
            get_error_handler().record_exception(told)
            if told is error:
                raise
            raise told from error

    def _lost(self, error: Exception) -> RunError:
        return RunError(
            f"process {self.rank} of {self.count} lost the others: {str(error).splitlines()[0]}\n"
            "One of them ended, or hangs (parallel.timeout_minutes); its own message says why. What was saved is untouched: "
            "start the processes again with rosd-kit run --resume."
        )


def _is_lost(error: Exception) -> bool:
    """Return whether an error comes from talking to other processes; gloo's have no type of their own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _mode(settings: ParallelSettings, count: int) -> Mode:
    """Return how the processes work together. Raises `RunError` when that is not what was asked for."""
    sharding = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")
    launch = "torchrun --nproc-per-node 2 -m rosd_kit run ..."
    if settings.processes is not None and settings.processes != count:
        raise RunError(
            f"parallel.processes: {settings.processes} were asked for and {count} started. Start them with `{launch}`; "
            "on CPUs `accelerate launch --cpu` starts one, whatever number it is told."
        )
    if settings.mode == "single" and count > 1:
        raise RunError(f"parallel.mode: {count} processes were started for what is done by one. Start it without a launcher.")
    if settings.mode in ("ddp", "fsdp") and count == 1:
        raise RunError(
            f"parallel.mode: {settings.mode!r} needs several processes and one was started. Start them with `{launch}`, "
            "or use parallel.mode=single."
        )
    if settings.mode == "ddp" and sharding:
        raise RunError("parallel.mode: 'ddp' was asked for, but the launcher is configured for FSDP. Make them agree.")
    meant = settings.mode == "single" or settings.processes == 1
    if count == 1 and not meant and "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise RunError(
            "parallel: accelerate launch started one process, as it does on CPUs whatever number it is told. Start several "
            f"with `{launch}`, or say that one is meant: parallel.mode=single"
        )
    if count == 1:
        return "single"
    if settings.mode == "auto":
        return "fsdp" if sharding else "ddp"
    return settings.mode


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut a list of tensors into runs of one type that are not too large."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
