"""What the ways have in common: a set of weights with a label, cut into buckets, inside an update's brackets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from torch import Tensor

from rosd_kit.model.export import NamedTensors
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import Refusal, ServerFacts

#: Most bytes that travel at once.
BUCKET_BYTES = 512 << 20

Bucket = list[tuple[str, Tensor]]


@dataclass(frozen=True)
class WeightSet:
    """Weights and the label by which a server knows them; `tensors` can be gone through again and again."""

    label: str
    tensors: Callable[[], NamedTensors]


class Carrier(ABC):
    """One way for weights to get to servers."""

    @abstractmethod
    async def carry(self, weights: WeightSet, client: Client, facts: ServerFacts) -> int:
        """Bring the weights to one server, which then wears their label; return the bytes.

        An update must not flush the server's cache: SGLang ends itself if it cannot, and any request keeps it from that, even
        the token that it makes to answer a question about its health. The cache is dropped afterwards (`Client.forget`).

        Raises `ServerFault` or `Refusal` where the server does not take them; it may then hold a mixture and must
        be given them anew.
        """

    async def close(self) -> None:
        """Give back what was needed on the way; called at the end of the run."""
        return None


def buckets(tensors: NamedTensors, limit: int = BUCKET_BYTES) -> Iterator[Bucket]:
    """Cut weights into lists of one dtype and at most `limit` bytes; a larger weight goes alone."""
    bucket: Bucket = []
    room = limit
    for name, tensor in tensors:
        if bucket and (tensor.nbytes > room or tensor.dtype != bucket[0][1].dtype):
            yield bucket
            bucket, room = [], limit
        bucket.append((name, tensor))
        room -= tensor.nbytes
    if bucket:
        yield bucket


def marked_last(found: Iterator[Bucket]) -> Iterator[tuple[Bucket, bool]]:
    """Yield each bucket, and whether it is the last one."""
    held = next(found)
    for bucket in found:
        yield held, False
        held = bucket
    yield held, True


@asynccontextmanager
async def bracketed(client: Client, facts: ServerFacts) -> AsyncIterator[None]:
    """Begin and end an update where the server's version wants that; one that was left open is ended first."""
    if not facts.brackets:
        yield
        return
    try:
        await client.post("/begin_weight_update", {})
    except Refusal:
        await client.post("/end_weight_update", {})
        await client.post("/begin_weight_update", {})
    try:
        yield
    except BaseException:
        with suppress(Exception):
            await client.post("/end_weight_update", {})
        raise
    await client.post("/end_weight_update", {})
