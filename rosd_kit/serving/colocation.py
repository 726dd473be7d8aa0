"""Hands the memory of a shared GPU to the trainer and back. Does nothing to servers with their own GPU."""

from __future__ import annotations

from rosd_kit.parallel.devices import free_cached_memory
from rosd_kit.serving.event_loop import EventLoopThread
from rosd_kit.serving.pool import Pool
from rosd_kit.serving.protocol import ServerFault
from rosd_kit.serving.replica import Replica


class ColocatedMemory:
    """Knows which kinds of memory (`weights`, `kv_cache`) the servers of a pool have released."""

    def __init__(self, loop: EventLoopThread, pool: Pool) -> None:
        self._loop = loop
        self._pool = pool
        self._released: set[str] = set()
        self._starts_at_release: dict[Replica, int] = {}

    def release(self) -> None:
        """Make all servers release their memory, unless they already have."""
        if not self._released:
            self._loop.run(self._pool.call_each(lambda replica: replica.client.flush_cache()))
            self._loop.run(self._pool.call_each(lambda replica: replica.client.release_memory()))
            self._released = {"kv_cache", "weights"}
            self._starts_at_release = {replica: replica.starts for replica in self._pool.replicas}

    def resume(self, tag: str) -> bool:
        """Make the servers that released this memory allocate it again; return whether any had to.

        One that restarted meanwhile still has its own.

        SGLang exits if it is asked to resume twice. So the request is repeated only if the server said that it is unavailable,
        not if the response was lost; if the request did not arrive, the server fails at the next one and is recovered then.
        """
        sent: set[Replica] = set()

        async def resume_one(replica: Replica) -> None:
            if self._starts_at_release.get(replica) != replica.starts or replica in sent:
                return
            sent.add(replica)
            try:
                await replica.client.resume_memory(tag)
            except ServerFault as fault:
                if fault.kind == "unavailable":
                    sent.discard(replica)
                raise

        if tag not in self._released:
            return False
        free_cached_memory()  # the server exits if it cannot have its memory back
        self._loop.run(self._pool.call_each(resume_one))
        self._released.discard(tag)
        return True
