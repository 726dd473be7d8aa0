"""Sends weights through shared memory, which the server maps. Both must be on the same host."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from threading import Lock
from types import SimpleNamespace

import torch
import torch.multiprocessing
from torch import Tensor

from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import ServerInfo
from rosd_kit.sglang.weight_transfer.base import (
    Bucket,
    LabeledWeights,
    WeightTransfer,
    buckets,
    update_session,
    with_last_flag,
)

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
                flat, handle = await asyncio.to_thread(_share, bucket)
                request = {"serialized_named_tensors": [handle] * info.ranks, "load_format": "flattened_bucket"}
                label = {"weight_version": weights.label} if is_last else {}
                await client.post("/update_weights_from_tensor", {**request, **label, "flush_cache": False})
                sent_bytes += flat.nbytes  # also keeps `flat` alive until the server has read it
        return sent_bytes


def _share(bucket: Bucket) -> tuple[Tensor, str]:
    """Return the bucket's bytes as a tensor in shared memory, and its handle as the base64 of a pickle."""
    flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for _, tensor in bucket])
    entries, start = [], 0
    for name, tensor in bucket:
        end = start + tensor.nbytes
        span = {"start_idx": start, "end_idx": end, "numel": tensor.nbytes}
        entries.append(SimpleNamespace(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype, **span))
        start = end
    with _STRATEGY_LOCK, _share_by_file_name():
        pickled = bytes(ForkingPickler.dumps({"flattened_tensor": flat, "metadata": entries}))
    return flat, base64.b64encode(pickled).decode()


@contextmanager
def _share_by_file_name() -> Iterator[None]:
    """Share memory by file name: a file descriptor means nothing to a process that is not a child of this one."""
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        yield
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
