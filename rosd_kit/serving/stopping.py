"""Ends requests that are open on a server, when another thread says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from rosd_kit.serving.protocol import ServerFault

T = TypeVar("T")

#: Seconds between looks at what another thread sets.
_LOOK = 0.02
#: Seconds after which a request is ended again: a server ignores what it does not know yet.
_AGAIN = 0.5


async def follow(stop: threading.Event, seen: asyncio.Event) -> None:
    """Set `seen`, which belongs to this event loop, soon after another thread has set `stop`."""
    while not stop.is_set():
        await asyncio.sleep(_LOOK)
    seen.set()


async def until(seen: asyncio.Event, answer: Coroutine[Any, Any, T], end: Callable[[], Awaitable[object]]) -> T:
    """Return the answer to a request; once `seen` is set, `end` the request until the answer is there."""
    answering, noticing = asyncio.ensure_future(answer), asyncio.ensure_future(seen.wait())
    try:
        await asyncio.wait({answering, noticing}, return_when=asyncio.FIRST_COMPLETED)
        while not answering.done():
            with suppress(ServerFault):  # the answer fails too then, or is worth waiting for
                await end()
            await asyncio.wait({answering}, timeout=_AGAIN)
        return await answering
    finally:
        answering.cancel()
        noticing.cancel()
