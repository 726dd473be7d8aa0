"""Shared by all transfers: weights with a label, their buckets, and the session that encloses an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from rosd_kit.model.export import NamedTensors
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import RequestRejected, ServerInfo
from rosd_kit.sglang.weight_transfer.sizes import BUCKET_BYTES

Bucket = list[tuple[str, Tensor]]
T = TypeVar("T")


@dataclass(frozen=True)
class LabeledWeights:
    """Weights, and the label under which a server holds them; `tensors` returns a new iterator at each call."""

    label: str
    tensors: Callable[[], NamedTensors]


class WeightTransfer(ABC):
    """One way to send weights to servers."""

    @abstractmethod
    async def send(self, weights: LabeledWeights, client: Client, info: ServerInfo) -> int:
        """Send the weights to one server, which then reports their label; return the bytes sent.

        An update must not flush the server's cache: SGLang exits if it cannot flush, and any running request prevents it, even
        the token that it samples to answer a health check. The cache is flushed afterwards (`Client.flush_cache`).

        Raises `ServerFault` or `RequestRejected` if the server does not accept them; it may then hold a mixture and must be
        sent all weights again.
        """

    async def close(self) -> None:
        """Free the resources of the transfer; called at the end of the run."""
        return None


def buckets(tensors: NamedTensors, limit: int = BUCKET_BYTES) -> Iterator[Bucket]:
    """Split weights into buckets of one dtype and at most `limit` bytes; a larger weight gets its own bucket."""
    bucket: Bucket = []
    free_bytes = limit
    for name, tensor in tensors:
        if bucket and (tensor.nbytes > free_bytes or tensor.dtype != bucket[0][1].dtype):
            yield bucket
            bucket, free_bytes = [], limit
        bucket.append((name, tensor))
        free_bytes -= tensor.nbytes
    if bucket:
        yield bucket


def with_last_flag(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Yield each item and whether it is the last one."""
    held = next(items)
    for item in items:
        yield held, False
        held = item
    yield held, True


@asynccontextmanager
async def update_session(client: Client, info: ServerInfo) -> AsyncIterator[None]:
    """Begin and end an update if the server's version needs that; end first a session that was left open."""
    if not info.has_update_sessions:
        yield
        return
    try:
        await client.post("/begin_weight_update", {})
    except RequestRejected:
        await client.post("/end_weight_update", {})
        await client.post("/begin_weight_update", {})
    try:
        yield
    except BaseException:
        with suppress(Exception):
            await client.post("/end_weight_update", {})
        raise
    await client.post("/end_weight_update", {})
