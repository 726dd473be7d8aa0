"""One server of the run: made ready, given the run's weights, and mended when it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from rosd_kit.errors import EngineError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import Refusal, ServerFacts, ServerFault
from rosd_kit.sglang.server import Server
from rosd_kit.sglang.weight_transfer import Carrier, WeightSet

Count = Callable[[str, float], None]

#: Seconds within which a living server answers a question about its health, under load too.
_PULSE = 25.0
#: Seconds between two looks at a server that is waited for.
_POLL = 0.5
#: Seconds between two lines that say what is waited for.
_TELLING = 15.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long, in seconds, and how often things are tried.

    `ready`: until a launched server is ready. `back`: until a server that somebody else runs is back. `relaunches`: how
    often in a row a server of our own is started again without having answered in between.
    """

    ready: float = 600.0
    back: float = 120.0
    relaunches: int = 3


class Member:
    """A server and what the run knows of it.

    `epoch` counts how often it was mended, `starts` how often it began anew; `lost` says why it was given up.
    """

    def __init__(
        self,
        client: Client,
        *,
        server: Server | None,
        carrier: Carrier,
        patience: Patience,
        progress: Callable[[str], None],
        count: Count,
    ) -> None:
        self.client = client
        self.server = server
        self.epoch = 0
        self.starts = 0
        self.lost: str | None = None
        self._carrier = carrier
        self._patience = patience
        self._progress = progress
        self._count = count
        self._facts: ServerFacts | None = None
        self._mending = asyncio.Lock()
        self._relaunched = 0
        self._given: str | None = None  # the label of the weights that it was last given whole, its cache dropped

    @property
    def facts(self) -> ServerFacts:
        """What the server is; known once it was ready."""
        assert self._facts is not None, "the server was not ready yet"
        return self._facts

    async def begin(self) -> None:
        """Start the server if it is ours, and wait until it can generate. Raises `EngineError` when it never can."""
        if self.server is not None:
            await asyncio.to_thread(self.server.start)
        self.starts += 1
        await self._wait(self._patience.ready if self.server else self._patience.back)
        try:
            self._facts = await self._ask_facts()
        except (ServerFault, Refusal) as error:
            raise EngineError(
                f"rollout: {self.client.url} does not say what it is: {error}. Is it an SGLang server, and is "
                "rollout.api_key_env right?"
            ) from error

    async def _ask_facts(self) -> ServerFacts:
        """Ask what the server is; one that has just become healthy may still refuse once or twice."""
        for _ in range(3):
            try:
                return await self.client.facts()
            except ServerFault:
                await asyncio.sleep(_POLL)
        return await self.client.facts()

    async def load(self, weights: WeightSet) -> None:
        """Bring weights to the server and check that it says it has them. Raises `ServerFault` or `Refusal`."""
        began = time.perf_counter()
        sent = await self._carrier.carry(weights, self.client, self.facts)
        await self.client.forget()  # what it computed with the weights before
        label = await self.client.label()
        if label != weights.label:
            raise ServerFault("stale", f"{self.client.url} says it holds {label!r} after it was given {weights.label!r}")
        self._given = label
        self._count("engine/sync_seconds", time.perf_counter() - began)
        self._count("engine/sync_mib", sent / 2**20)

    async def renew(self, weights: WeightSet) -> None:
        """Bring weights to the server; mend it as often as is allowed when it fails meanwhile."""
        for _ in range(1 + self._patience.relaunches):
            epoch = self.epoch
            try:
                return await self.load(weights)
            except Refusal as refusal:
                raise EngineError(f"rollout: the server refuses the weights: {refusal}") from refusal
            except ServerFault as fault:
                self._count(f"engine/fault/{fault.kind}", 1)
                failed = fault
            if await self.mend(weights, failed, epoch):
                return None
        raise EngineError(f"rollout: {self.client.url} could not be given weights: {failed}")

    async def mend(self, weights: WeightSet, fault: ServerFault, epoch: int) -> bool:
        """After a fault: wait for the server or start it again, and give it the weights if it does not hold them.

        Returns whether it holds them now. `epoch` is the member's when the failed request began: what was mended since is
        not mended again. Raises `EngineError` when the server is gone for good.
        """
        async with self._mending:
            if self.lost is not None:
                raise EngineError(self.lost)  # nobody waits for it a second time
            if self.epoch != epoch:
                return True
            dead = self.server is not None and not self.server.alive
            if dead or not await self.client.healthy(timeout=_PULSE):
                await self._revive(fault)
            try:
                label = await self.client.label()
                if not label == self._given == weights.label:
                    self._count("engine/resyncs", 1)
                    self.starts += label not in (self._given, weights.label)  # what it was never given, it began with
                    await self.load(weights)
            except Refusal as refusal:
                raise EngineError(f"rollout: the server refuses the weights: {refusal}") from refusal
            except ServerFault:
                return False
            self.epoch += 1
            return True

    def answered(self) -> None:
        """The server did what it was asked: its failures so far do not count against it any longer."""
        self._relaunched = 0

    async def end(self) -> None:
        """Close the connection and stop the server if it is ours."""
        await self.client.close()
        if self.server is not None:
            await asyncio.to_thread(self.server.stop)

    async def _revive(self, fault: ServerFault) -> None:
        if self.server is None:
            await self._wait(self._patience.back)
            return
        if self._relaunched >= self._patience.relaunches:
            raise EngineError(
                f"rollout: the SGLang server failed {self._relaunched + 1} times in a row; the last time: {fault}. "
                f"See {self.server.log}, which ends:\n{self.server.last_words()}"
            )
        self._relaunched += 1
        self._count("engine/relaunches", 1)
        self._progress(f"starting the SGLang server again ({self._relaunched} of {self._patience.relaunches})")
        try:
            await self.begin()
        except EngineError:
            if self.server.alive or self._relaunched >= self._patience.relaunches:
                raise
            await self._revive(fault)  # it ended at once, say because its memory was not free yet

    async def _wait(self, seconds: float) -> None:
        """Wait until the server is healthy. Raises `EngineError` when it ends or the time is over."""
        began = time.monotonic()
        told = -_TELLING
        while not await self.client.healthy(timeout=_PULSE):
            waited = time.monotonic() - began
            if self.server is not None and not self.server.alive:
                raise EngineError(
                    f"rollout: the SGLang server ended before it was ready. See {self.server.log}, which ends:\n"
                    f"{self.server.last_words()}"
                )
            if waited > seconds:
                raise EngineError(self._too_late(seconds))
            if waited - told >= _TELLING:
                told = waited
                log = f", log {self.server.log}" if self.server else ""
                self._progress(f"waiting for SGLang at {self.client.url} ({waited:.0f} s of at most {seconds:.0f}{log})")
            await asyncio.sleep(_POLL)

    def _too_late(self, seconds: float) -> str:
        text = f"rollout: no healthy SGLang server at {self.client.url} after {seconds:.0f} s. "
        if self.server is None:
            return text + "Start it, or correct rollout.url; what was saved stays, and the run can be resumed."
        return (
            text
            + f"Raise rollout.launch.deadline if it needs longer; see {self.server.log}, which ends:\n"
            + (self.server.last_words())
        )
