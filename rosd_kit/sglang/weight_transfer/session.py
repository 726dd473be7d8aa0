"""The session that encloses an update of weights, for the versions of SGLang that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import RequestRejected, ServerInfo
from rosd_kit.sglang.protocol import has_update_sessions


@asynccontextmanager
async def update_session(client: Client, info: ServerInfo) -> AsyncIterator[None]:
    """Begin and end an update if the server's version needs that; end first a session that was left open."""
    if not has_update_sessions(info):
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
