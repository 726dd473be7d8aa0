"""Weights through a process group of trainer and server: NCCL between GPUs, gloo between CPUs, on one host or several."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed import distributed_c10d

from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import ServerFacts, ServerFault
from rosd_kit.sglang.weight_transfer.base import Bucket, Carrier, WeightSet, bracketed, buckets, marked_last

T = TypeVar("T")

_JOINING = timedelta(seconds=60)


class DistributedCarrier(Carrier):
    """Broadcasts each bucket to the ranks of one server. Every server has a group of its own, so that one can be replaced.

    `host` is the address under which servers reach the trainer.
    """

    def __init__(self, *, host: str, device: torch.device) -> None:
        self._host = host
        self._device = device
        self._groups: dict[Client, tuple[str, Any]] = {}
        self._numbers = itertools.count()

    async def carry(self, weights: WeightSet, client: Client, facts: ServerFacts) -> int:
        try:
            name, group = self._groups.get(client) or await self._join(client, facts)
            sent = 0
            async with bracketed(client, facts):
                for bucket, last in marked_last(buckets(weights.tensors())):
                    sent += await self._send(client, name, group, bucket, weights.label if last else None)
            return sent
        except BaseException:
            await self._leave(client)  # a group with a failed broadcast, or with a server that is no more, is of no use
            raise

    async def close(self) -> None:
        for client in list(self._groups):
            await self._leave(client)

    async def _join(self, client: Client, facts: ServerFacts) -> tuple[str, Any]:
        """Make a group with one server: the trainer is rank 0, the server's ranks follow."""
        name = f"rosd-kit-{id(self):x}-{next(self._numbers)}"
        backend, size = "nccl" if self._device.type == "cuda" else "gloo", 1 + facts.ranks
        port = _free_port(self._host)
        invitation = {
            "master_address": self._host,
            "master_port": port,
            "rank_offset": 1,
            "world_size": size,
            "group_name": name,
            "backend": backend,
        }
        made, _ = await _both(
            _in_thread(_open, self._host, port, size, name, backend),
            client.post("/init_weights_update_group", invitation),
        )
        self._groups[client] = (name, made)
        return name, made

    async def _leave(self, client: Client) -> None:
        name, group = self._groups.pop(client, (None, None))
        if name is None:
            return
        with suppress(Exception):
            await client.post("/destroy_weights_update_group", {"group_name": name})
        with suppress(Exception):
            torch.distributed.destroy_process_group(group)

    async def _send(self, client: Client, name: str, group: Any, bucket: Bucket, label: str | None) -> int:
        tensors = [tensor.to(self._device).contiguous() for _, tensor in bucket]
        request = {
            "names": [name for name, _ in bucket],
            "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in tensors],
            "shapes": [list(tensor.shape) for tensor in tensors],
            "group_name": name,
            "flush_cache": False,
            **({"weight_version": label} if label else {}),
        }
        await _both(
            _in_thread(_broadcast, tensors, group),
            client.post("/update_weights_from_distributed", request),
        )
        return sum(tensor.nbytes for tensor in tensors)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Like `asyncio.to_thread`, but the end of the program does not wait for it: it may wait for a server in vain."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            how(outcome)

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], object] = (future.set_result, work(*arguments))
        except Exception as error:
            outcome = (future.set_exception, error)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="rosd-kit-group", daemon=True).start()
    return await future


async def _both(work: Any, request: Any) -> tuple[Any, Any]:
    """Do our part while the server does its own. When it refuses, do not wait for it any longer."""
    ours, theirs = asyncio.ensure_future(work), asyncio.ensure_future(request)
    done, _ = await asyncio.wait({ours, theirs}, return_when=asyncio.FIRST_EXCEPTION)
    for future in done:
        if future.exception() is not None:
            theirs.cancel()
            ours.add_done_callback(lambda future: future.cancelled() or future.exception())
            error = future.exception()
            raise ServerFault("unavailable", str(error)) if isinstance(error, RuntimeError) else error
    return ours.result(), theirs.result()


def _open(host: str, port: int, size: int, name: str, backend: str) -> Any:
    """Open the trainer's side, as `init_process_group` does, but beside the group of the trainer's own ranks."""
    server = TCPStore(host, port, size, is_master=True, timeout=_JOINING, wait_for_workers=False)
    group, _ = distributed_c10d._new_process_group_helper(
        size,
        0,
        [],
        distributed_c10d.Backend(backend),
        PrefixStore(name, server),
        group_name=distributed_c10d.GroupName(name),
        timeout=_JOINING,
    )
    distributed_c10d._world.pg_group_ranks[group] = {rank: rank for rank in range(size)}
    return group


def _broadcast(tensors: Sequence[Tensor], group: Any) -> None:
    for tensor in tensors:
        torch.distributed.broadcast(tensor, group_src=0, group=group)
    if tensors and tensors[0].is_cuda:
        torch.cuda.synchronize()


def _free_port(host: str) -> int:
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])
