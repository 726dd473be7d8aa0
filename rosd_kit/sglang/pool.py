"""The servers of a run together: each request goes to the one with the least to do and is answered exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from rosd_kit.errors import EngineError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import Answer, Refusal, ServerFault
from rosd_kit.sglang.replica import Count, Member
from rosd_kit.sglang.weight_transfer import Carrier, WeightSet

T = TypeVar("T")

#: Seconds before a failed request is sent again: this much, doubled each time up to the second number.
_PAUSE, _LONGEST_PAUSE = 0.25, 8.0


class Pool:
    """Servers that all hold the same weights.

    `concurrency` requests are under way at each of them at most; a request is tried `tries` times. With a `router`, requests
    go through it, while weights still go to the servers themselves.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        carrier: Carrier,
        concurrency: int,
        tries: int,
        count: Count,
        router: Client | None = None,
    ) -> None:
        self.members = list(members)
        self.weights: WeightSet | None = None
        self._carrier = carrier
        self._router = router
        self._tries = tries
        self._count = count
        self._concurrency = concurrency
        self._busy = dict.fromkeys(members, 0)
        self._changed = asyncio.Condition()

    async def begin(self) -> None:
        """Make all servers ready."""
        await asyncio.gather(*(member.begin() for member in self.members))

    async def load(self, weights: WeightSet) -> None:
        """Give all servers these weights; from now on only answers that come from them are accepted."""
        self.weights = weights
        await asyncio.gather(*(self._keep(member, member.renew(weights)) for member in self._living()))
        self._living()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Have a question answered by some server, whichever has the least to do."""
        failed: Exception | None = None
        for attempt in range(self._tries):
            if attempt:
                self._count("engine/retries", 1)
                await _pause(attempt)
            member = await self._take()
            epoch = member.epoch
            try:
                answer = await question(self._router or member.client)
                self._check(answer)
                member.answered()
                return answer
            except Refusal as refusal:
                raise EngineError(f"rollout: the server refuses a request: {refusal}") from refusal
            except ServerFault as fault:
                failed = self._counted(fault)
            finally:
                await self._give_back(member)
            await self._mend(member, failed, epoch)
        raise EngineError(
            f"rollout: a request failed {self._tries} times; the last time: {failed}. What was saved stays; go on with "
            "rosd-kit run --resume."
        )

    async def _take(self) -> Member:
        """Wait for a server with room for one more request, and take that room; the one with the least to do goes first."""
        async with self._changed:
            while True:
                member = min(self._living(), key=lambda member: self._busy[member])
                if self._busy[member] < self._concurrency:
                    self._busy[member] += 1
                    return member
                await self._changed.wait()

    async def _give_back(self, member: Member) -> None:
        async with self._changed:
            self._busy[member] -= 1
            self._changed.notify_all()

    async def ask_each(self, question: Callable[[Member], Awaitable[T]]) -> list[tuple[Member, T]]:
        """Ask every server the same and return the answers of all that are not lost, for what concerns each of them."""
        return [(member, answer) for member in self._living() for answer in await self._ask_one(member, question)]

    async def _ask_one(self, member: Member, question: Callable[[Member], Awaitable[T]]) -> list[T]:
        """Return a server's answer, or nothing when it is gone for good and others are left."""
        for attempt in range(self._tries):
            if attempt:
                await _pause(attempt)
            epoch = member.epoch
            try:
                return [await question(member)]
            except Refusal as refusal:
                raise EngineError(f"rollout: {member.client.url} refuses: {refusal}") from refusal
            except ServerFault as fault:
                failed = self._counted(fault)
            await self._mend(member, failed, epoch)
            if member.lost is not None:
                return []
        raise EngineError(f"rollout: {member.client.url} does not answer: {failed}")

    async def end(self) -> None:
        """Close all connections and stop the servers that are ours."""
        if self._router is not None:
            await self._router.close()
        await self._carrier.close()
        await asyncio.gather(*(member.end() for member in self.members), return_exceptions=True)

    @property
    def context(self) -> int:
        """Most tokens, prompt and response together, that every server takes."""
        return min(member.facts.context for member in self._living())

    def _check(self, answer: object) -> None:
        """Refuse what was sampled with other weights than the run's."""
        if isinstance(answer, Answer) and self.weights and answer.labels != {self.weights.label}:
            raise ServerFault("stale", f"sampled with the weights {sorted(answer.labels)}, not {self.weights.label!r}")

    async def _mend(self, member: Member, fault: ServerFault, epoch: int) -> None:
        if self.weights is not None:
            for other in self._living() if self._router else [member]:
                await self._keep(other, other.mend(self.weights, fault, epoch if other is member else other.epoch))

    async def _keep(self, member: Member, work: Awaitable[object]) -> None:
        """Do something with a server; if it is gone for good, go on without it as long as there are others."""
        try:
            await work
        except EngineError as error:
            if member.lost is None:
                member.lost = str(error)
                self._count("engine/lost", 1)
            async with self._changed:
                self._changed.notify_all()
            self._living()

    def _counted(self, fault: ServerFault) -> ServerFault:
        self._count(f"engine/fault/{fault.kind}", 1)
        return fault

    def _living(self) -> list[Member]:
        living = [member for member in self.members if member.lost is None]
        if not living:
            raise EngineError(
                "\n".join(dict.fromkeys(str(member.lost) for member in self.members))
                + "\nNo server is left. What was saved stays; mend the server and go on with rosd-kit run --resume."
            )
        return living


async def _pause(attempt: int) -> None:
    await asyncio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2 ** (attempt - 1)))
