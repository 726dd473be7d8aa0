"""Shared by all transfers of weights: weights with a label, and their buckets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from rosd_kit.model.export import NamedTensors
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import ServerInfo
from rosd_kit.serving.weight_transfer.sizes import BUCKET_BYTES

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
