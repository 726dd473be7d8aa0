"""The ranks of a run: one process each, with one device each, and the communication between them.

A single process is the usual case and needs no communication. Several are started by `torchrun` or `accelerate launch` and
joined through accelerate. Does not know models.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from rosd_kit.errors import RunError
from rosd_kit.settings import ParallelSettings

T = TypeVar("T")
Mode = Literal["single", "ddp", "fsdp"]

#: Gradients are summed in buckets of about this size, so that no second copy of all of them is needed.
_BUCKET_BYTES = 64 << 20
#: Seconds that a rank which lost a peer waits before it ends too. The launcher compares times in whole seconds, and should
#: report the peer that failed first.
_LOST_PEER_DELAY = 2.0
_SHARED_NUMBERS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's `rank` among the `count` processes of a run; `local_rank` among the `local_count` on its machine.

    All ranks must call its methods in the same order, except `assigned_indices` and `reporting_failure`.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    mode: Mode = "single"
    timeout: timedelta = timedelta(hours=1)
    group: dist.ProcessGroup | None = None

    @classmethod
    def start(cls, settings: ParallelSettings, device: Literal["auto", "cpu", "cuda"] = "auto") -> Ranks:
        """Join the processes that a launcher started, or run alone.

        Raises `RunError` when their number or their mode is not the one that the recipe asks for.
        """
        timeout = timedelta(minutes=settings.timeout_minutes)
        state = PartialState(cpu=device == "cpu", timeout=timeout)
        count = state.num_processes
        if device == "cuda" and state.device.type != "cuda":
            raise RunError("model.device: 'cuda' was requested, but torch sees no GPU. Use auto or cpu.")
        mode = _mode(settings, count)
        return cls(
            device=state.device,
            rank=state.process_index,
            count=count,
            local_rank=state.local_process_index,
            local_count=int(os.environ.get("LOCAL_WORLD_SIZE", count)) if count > 1 else 1,
            mode=mode,
            timeout=timeout,
        ).with_new_group()

    @classmethod
    def alone(cls, device: Literal["auto", "cpu", "cuda"] = "auto") -> Ranks:
        """Return a single rank, for work that one process does. Raises `RunError` under a launcher that started several."""
        return cls.start(ParallelSettings(mode="single"), device)

    def with_new_group(self) -> Ranks:
        """Return the same ranks with a separate process group, so that a second thread can communicate at the same time."""
        return replace(self, group=dist.new_group(backend="gloo", timeout=self.timeout)) if self.count > 1 else self

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes files and shows progress."""
        return self.rank == 0

    def assigned_indices(self, count: int) -> range:
        """Return the indices, of `count` items, that this rank works on."""
        return range(self.rank, count, self.count)

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        dist.all_gather_object(values, value, group=self.group)
        values[self.rank] = value  # keeps what pickling loses, like the errors that components raised
        return values

    def from_main(self, value: T) -> T:
        """Return the main rank's value."""
        return self.gather(value)[0]

    def together(self, action: Callable[[], T]) -> list[T]:
        """Return what `action` returned on every rank, in the order of ranks. If it failed on one, all raise that error."""
        outcome: T | Exception
        try:
            outcome = action()
        except Exception as error:
            if self.count == 1:
                raise
            outcome = error
        outcomes = self.gather(outcome)
        for failed in (one for one in outcomes if isinstance(one, Exception)):
            raise failed
        return outcomes  # type: ignore[return-value]

    def any(self, value: bool) -> bool:
        """Return whether the value is true on any rank."""
        return any(self.gather(value))

    def shared_number(self, name: str) -> Callable[[int], int]:
        """Return a function that adds to a new number, which all ranks share, and returns it.

        All ranks call this together; what is returned may be called by any of them, any time.
        """
        if self.count > 1:
            store, key = _get_default_store(), f"rosd-kit {next(_SHARED_NUMBERS)} {name}"  # it outlives a run
            return lambda amount: int(store.add(key, amount))
        total = 0

        def add(amount: int) -> int:
            nonlocal total
            total += amount
            return total

        return add

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, total in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))

    @contextmanager
    def reporting_failure(self) -> Iterator[None]:
        """Report an error to the launcher, so that it names the rank that failed first; raise `RunError` for a lost peer."""
        try:
            yield
        except Exception as error:
            if self.count == 1:
                raise
            reported: Exception = error
            if _is_communication_error(error):
                reported = self._lost_peer(error)
                time.sleep(_LOST_PEER_DELAY)
            get_error_handler().record_exception(reported)
            if reported is error:
                raise
            raise reported from error

    @contextmanager
    def outlasting_sigterm(self) -> Iterator[None]:
        """Once an error is raised inside, ignore SIGTERM for good, so that this rank closes what is open and reports the error.

        A launcher sends it to the ranks that are left as soon as one of them has died, and kills them 30 seconds later.
        """
        try:
            yield
        except Exception:
            if self.count > 1:
                with suppress(ValueError):  # outside the main thread
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise

    def _lost_peer(self, error: Exception) -> RunError:
        return RunError(
            f"process {self.rank} of {self.count} lost the others: {str(error).splitlines()[0]}\n"
            "One of them ended or hangs (parallel.timeout_minutes); its own message says why. Saved checkpoints are intact: "
            "start the processes again with rosd-kit run --resume."
        )


def _is_communication_error(error: Exception) -> bool:
    """Return whether communication with other ranks failed; gloo raises a plain `RuntimeError`."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _mode(settings: ParallelSettings, count: int) -> Mode:
    """Return the parallel mode. Raises `RunError` when the launched processes do not match the recipe."""
    sharding = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")
    launch = "torchrun --nproc-per-node 2 -m rosd_kit run ..."
    if settings.processes is not None and settings.processes != count:
        raise RunError(
            f"parallel.processes: {settings.processes} were requested and {count} started. Start them with `{launch}`; "
            "on CPUs `accelerate launch --cpu` starts one, whatever number it is given."
        )
    if settings.mode == "single" and count > 1:
        raise RunError(f"parallel.mode: {count} processes were started for a task of one. Start it without a launcher.")
    if settings.mode in ("ddp", "fsdp") and count == 1:
        raise RunError(
            f"parallel.mode: {settings.mode!r} needs several processes and one was started. Start them with `{launch}`, "
            "or use parallel.mode=single."
        )
    if settings.mode == "ddp" and sharding:
        raise RunError("parallel.mode: 'ddp' was requested, but the launcher is configured for FSDP. Make them agree.")
    single_requested = settings.mode == "single" or settings.processes == 1
    if count == 1 and not single_requested and "ACCELERATE_MIXED_PRECISION" in os.environ:
        raise RunError(
            "parallel: accelerate launch started one process, as it does on CPUs whatever number it is given. Start several "
            f"with `{launch}`, or set parallel.mode=single if one is what you want."
        )
    if count == 1:
        return "single"
    if settings.mode == "auto":
        return "fsdp" if sharding else "ddp"
    return settings.mode


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Split a list of tensors into consecutive buckets of one dtype and limited size."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
