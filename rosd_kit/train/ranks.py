"""The processes of a run: how many there are, which one this is, and what they tell each other.

One process is the ordinary case and needs no communication. Several are started by `torchrun` or `accelerate launch` and
found through accelerate. Knows nothing of models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from rosd_kit.errors import RunError
from rosd_kit.settings import ParallelSettings

T = TypeVar("T")
Mode = Literal["single", "ddp", "fsdp"]

#: Gradients are added up in pieces of about this size, so that no second copy of all of them is needed.
_BUCKET_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of a run, each with one device. Every method but `share` must be called by all of them."""

    device: torch.device
    rank: int = 0
    count: int = 1
    mode: Mode = "single"
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
        talk = dist.new_group(backend="gloo", timeout=patience) if count > 1 else None
        return cls(device=state.device, rank=state.process_index, count=count, mode=mode, _talk=talk)

    @classmethod
    def alone(cls, device: Literal["auto", "cpu", "cuda"] = "auto") -> Ranks:
        """Stand alone, for what one process does. Raises `RunError` under a launcher that started several."""
        return cls.start(ParallelSettings(mode="single"), device)

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
        with self._together():
            dist.all_gather_object(values, value, group=self._talk)
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
        with self._together():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.flatten() for tensor in bucket])
                dist.all_reduce(flat)
                for tensor, total in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                    tensor.copy_(total.view_as(tensor))

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Say what has happened when another process cannot be reached any more."""
        try:
            yield
        except RuntimeError as error:
            raise RunError(
                f"process {self.rank} of {self.count} lost the others: {str(error).splitlines()[0]}\n"
                "One of them ended, or hangs; its own message says why. What was saved is untouched: "
                "start the same processes again with rosd-kit run --resume."
            ) from error


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
