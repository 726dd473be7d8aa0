"""All replicas of a run: each request goes to the one with the fewest in flight and is answered exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from rosd_kit.errors import EngineError
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import GenerateResult, RequestRejected, ServerFault
from rosd_kit.serving.replica import AddMetric, Replica
from rosd_kit.serving.weight_transfer import LabeledWeights, WeightTransfer

T = TypeVar("T")

#: Seconds before the first retry, doubled with each further one up to the second number.
_RETRY_DELAY, _MAX_RETRY_DELAY = 0.25, 8.0


class Pool:
    """Replicas that all hold the same weights.

    Each replica has at most `concurrency` requests in flight; a request is tried `tries` times. With a `router`, requests go
    through it, while weights still go to the replicas themselves.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        transfer: WeightTransfer,
        concurrency: int,
        tries: int,
        add_metric: AddMetric,
        router: Client | None = None,
    ) -> None:
        self.replicas = list(replicas)
        self.weights: LabeledWeights | None = None
        self._transfer = transfer
        self._router = router
        self._tries = tries
        self._add_metric = add_metric
        self._concurrency = concurrency
        self._in_flight = dict.fromkeys(replicas, 0)
        self._slot_freed = asyncio.Condition()

    async def start(self) -> None:
        """Make all replicas ready."""
        await asyncio.gather(*(replica.start() for replica in self.replicas))

    async def load(self, weights: LabeledWeights) -> None:
        """Load weights into all replicas; from now on only responses sampled from them are accepted."""
        self.weights = weights
        await asyncio.gather(*(self._drop_if_lost(replica, replica.load_with_retries(weights)) for replica in self._alive()))
        self._alive()

    async def call(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """Send a request to the replica with the fewest in flight, retrying on others, and return its response."""
        last_fault: Exception | None = None
        for attempt in range(self._tries):
            if attempt:
                self._add_metric("engine/retries", 1)
                await _retry_delay(attempt)
            replica = await self._acquire()
            recoveries = replica.recoveries
            try:
                response = await request(self._router or replica.client)
                self._check_weights(response)
                replica.reset_relaunches()
                return response
            except RequestRejected as rejected:
                raise EngineError(f"rollout: the server rejected a request: {rejected}") from rejected
            except ServerFault as fault:
                last_fault = self._record(fault)
            finally:
                await self._release(replica)
            await self._recover(replica, last_fault, recoveries)
        raise EngineError(
            f"rollout: a request failed {self._tries} times; last fault: {last_fault}. Checkpoints are kept; continue with "
            "rosd-kit run --resume."
        )

    async def _acquire(self) -> Replica:
        """Wait until some replica may take another request, and count that request; the least busy one is taken."""
        async with self._slot_freed:
            while True:
                replica = min(self._alive(), key=lambda replica: self._in_flight[replica])
                if self._in_flight[replica] < self._concurrency:
                    self._in_flight[replica] += 1
                    return replica
                await self._slot_freed.wait()

    async def _release(self, replica: Replica) -> None:
        async with self._slot_freed:
            self._in_flight[replica] -= 1
            self._slot_freed.notify_all()

    async def call_each(self, request: Callable[[Replica], Awaitable[T]]) -> list[tuple[Replica, T]]:
        """Send the same request to every replica and return the responses of all that are not lost."""
        return [(replica, response) for replica in self._alive() for response in await self._call_one(replica, request)]

    async def _call_one(self, replica: Replica, request: Callable[[Replica], Awaitable[T]]) -> list[T]:
        """Return a replica's response, or nothing if it is lost and others are left."""
        for attempt in range(self._tries):
            if attempt:
                await _retry_delay(attempt)
            recoveries = replica.recoveries
            try:
                return [await request(replica)]
            except RequestRejected as rejected:
                raise EngineError(f"rollout: {replica.client.url} rejected a request: {rejected}") from rejected
            except ServerFault as fault:
                last_fault = self._record(fault)
            await self._recover(replica, last_fault, recoveries)
            if replica.lost_reason is not None:
                return []
        raise EngineError(f"rollout: {replica.client.url} does not respond: {last_fault}")

    async def close(self) -> None:
        """Close all connections and stop the servers that the run launched."""
        if self._router is not None:
            await self._router.close()
        await self._transfer.close()
        await asyncio.gather(*(replica.stop() for replica in self.replicas), return_exceptions=True)

    @property
    def context_length(self) -> int:
        """Longest sequence, prompt and response together, that every replica accepts, in tokens."""
        return min(replica.info.context_length for replica in self._alive())

    def _check_weights(self, response: object) -> None:
        """Raise `ServerFault` for a response that was sampled from other weights than the run's."""
        if isinstance(response, GenerateResult) and self.weights and response.labels != self.labels:
            raise ServerFault("stale", f"sampled from the weights {sorted(response.labels)}, not {self.weights.label!r}")

    @property
    def labels(self) -> frozenset[str]:
        """The labels that a response must have: that of the weights, if there are any yet."""
        return frozenset({self.weights.label} if self.weights is not None else ())

    async def _recover(self, replica: Replica, fault: ServerFault, recoveries: int) -> None:
        if self.weights is not None:
            # A router does not report which replica failed, so all of them are looked at.
            for other in self._alive() if self._router else [replica]:
                seen = recoveries if other is replica else other.recoveries
                await self._drop_if_lost(other, other.recover(self.weights, fault, seen))

    async def _drop_if_lost(self, replica: Replica, work: Awaitable[object]) -> None:
        """Await some work with a replica; if the replica is lost, continue without it as long as others are left."""
        try:
            await work
        except EngineError as error:
            if replica.lost_reason is None:
                replica.lost_reason = str(error)
                self._add_metric("engine/lost", 1)
            async with self._slot_freed:
                self._slot_freed.notify_all()
            self._alive()

    def _record(self, fault: ServerFault) -> ServerFault:
        self._add_metric(f"engine/fault/{fault.kind}", 1)
        return fault

    def _alive(self) -> list[Replica]:
        """Return the replicas that are not lost. Raises `EngineError` if there is none."""
        alive = [replica for replica in self.replicas if replica.lost_reason is None]
        if not alive:
            raise EngineError(
                "\n".join(dict.fromkeys(str(replica.lost_reason) for replica in self.replicas))
                + "\nNo server is left. Checkpoints are kept; repair the server and continue with rosd-kit run --resume."
            )
        return alive


async def _retry_delay(attempt: int) -> None:
    await asyncio.sleep(min(_MAX_RETRY_DELAY, _RETRY_DELAY * 2 ** (attempt - 1)))
