"""Sends weights through shared memory, which the server maps. Both must be on the same host."""

from __future__ import annotations

import asyncio
import base64
import copyreg
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from threading import Lock
from types import SimpleNamespace
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor
from torch.multiprocessing import reductions

from rosd_kit.parallel.devices import free_cached_memory
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import ServerInfo
from rosd_kit.serving.weight_transfer.base import (
    Bucket,
    LabeledWeights,
    WeightTransfer,
    buckets,
    with_last_flag,
)
from rosd_kit.sglang.weight_transfer.session import update_session

#: Torch's sharing strategy is global to the process, and several servers are sent weights at once.
_STRATEGY_LOCK = Lock()


class TensorTransfer(WeightTransfer):
    """Copies each bucket into one flat tensor in shared memory (on a GPU: in its memory) and sends the server its handle.

    The pickle that carries the handle holds plain Python and torch types only; the server accepts nothing else.
    """

    async def send(self, weights: LabeledWeights, client: Client, info: ServerInfo) -> int:
        sent_bytes = 0
        async with update_session(client, info):
            for bucket, is_last in with_last_flag(buckets(weights.tensors())):
                flat, handles = await asyncio.to_thread(_share, bucket, info.ranks)
                request = {"serialized_named_tensors": handles, "load_format": "flattened_bucket"}
                label = {"weight_version": weights.label} if is_last else {}
                await client.post("/update_weights_from_tensor", {**request, **label, "flush_cache": False})
                sent_bytes += flat.nbytes  # also keeps `flat` alive until the server has read it
                on_gpu = flat.is_cuda
                del bucket, flat
                if on_gpu:
                    await asyncio.to_thread(free_cached_memory)  # or each bucket takes more of what the server sleeps in
        return sent_bytes


def _share(bucket: Bucket, count: int = 1) -> tuple[Tensor, list[str]]:
    """Return the bucket's bytes as a tensor in shared memory, and `count` handles of it, each the base64 of a pickle.

    Each rank of a server needs its own: torch counts how often a handle was made, and how often it was opened and closed.
    """
    flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for _, tensor in bucket])
    entries, start = [], 0
    for name, tensor in bucket:
        end = start + tensor.nbytes
        span = {"start_idx": start, "end_idx": end, "numel": tensor.nbytes}
        entries.append(SimpleNamespace(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype, **span))
        start = end
    with _STRATEGY_LOCK, _share_by_file_name():
        handles = [_pickled({"flattened_tensor": flat, "metadata": entries}) for _ in range(count)]
    return flat, handles


def _pickled(content: object) -> str:
    """Return the base64 of a pickle in which memory on a GPU carries that GPU's UUID."""
    buffer = io.BytesIO()
    _HandlePickler(buffer).dump(content)
    return base64.b64encode(buffer.getvalue()).decode()


class _HandlePickler(ForkingPickler):
    """Names a GPU by its UUID, as SGLang's own senders do: trainer and server may number their GPUs differently."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.dispatch_table = {**_reducers(), Tensor: _reduce}


#: Takes an object of its type, and returns what pickle rebuilds it from.
Reducer = Callable[[Any], Any]


def _reducers() -> dict[type, Reducer]:
    extra: dict[type, Reducer] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return {**copyreg.dispatch_table, **extra}


#: Where the arguments of torch's `rebuild_cuda_tensor` name the device.
_DEVICE_ARGUMENT = 6


def _reduce(tensor: Tensor) -> tuple[Callable[..., Tensor], tuple[object, ...]]:
    rebuild, arguments = reductions.reduce_tensor(tensor)
    if rebuild is not reductions.rebuild_cuda_tensor:
        return rebuild, arguments
    uuid = str(torch.cuda.get_device_properties(arguments[_DEVICE_ARGUMENT]).uuid)
    return rebuild, (*arguments[:_DEVICE_ARGUMENT], uuid, *arguments[_DEVICE_ARGUMENT + 1 :])


@contextmanager
def _share_by_file_name() -> Iterator[None]:
    """Share memory by file name: a file descriptor means nothing to a process that is not a child of this one."""
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        yield
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
