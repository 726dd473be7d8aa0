"""Weights through shared memory: the server maps what the trainer laid there. Both must be on the same host."""

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
from rosd_kit.sglang.protocol import ServerFacts
from rosd_kit.sglang.weight_transfer.base import Bucket, Carrier, WeightSet, bracketed, buckets, marked_last

#: The way to share memory is a setting of the whole process, and several servers are given weights at once.
_SHARING = Lock()


class TensorCarrier(Carrier):
    """Lays each bucket flat into one piece of shared memory (on a GPU: of its memory) and sends the server its handle.

    The pickle that carries the handle holds plain Python and torch types only, which is all that the server admits.
    """

    async def carry(self, weights: WeightSet, client: Client, facts: ServerFacts) -> int:
        sent = 0
        async with bracketed(client, facts):
            for bucket, last in marked_last(buckets(weights.tensors())):
                flat, handle = await asyncio.to_thread(_shared, bucket)
                request = {"serialized_named_tensors": [handle] * facts.ranks, "load_format": "flattened_bucket"}
                label = {"weight_version": weights.label} if last else {}
                await client.post("/update_weights_from_tensor", {**request, **label, "flush_cache": False})
                sent += flat.nbytes  # and until here `flat` was alive for the server to read
        return sent


def _shared(bucket: Bucket) -> tuple[Tensor, str]:
    """Return the bucket's bytes in shared memory, and the base64 of a pickle that leads to them."""
    flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for _, tensor in bucket])
    entries, start = [], 0
    for name, tensor in bucket:
        end = start + tensor.nbytes
        place = {"start_idx": start, "end_idx": end, "numel": tensor.nbytes}
        entries.append(SimpleNamespace(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype, **place))
        start = end
    with _SHARING, _by_file_name():
        pickled = bytes(ForkingPickler.dumps({"flattened_tensor": flat, "metadata": entries}))
    return flat, base64.b64encode(pickled).decode()


@contextmanager
def _by_file_name() -> Iterator[None]:
    """Share memory by name: a file descriptor means nothing to a process that is not a child of this one."""
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        yield
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
