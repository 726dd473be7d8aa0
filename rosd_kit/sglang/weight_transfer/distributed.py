"""Sends weights through a process group of trainer and server: NCCL between GPUs, gloo between CPUs, across hosts too."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar, TypeVarTuple

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed import ProcessGroup, distributed_c10d

from rosd_kit.parallel.devices import use_in_this_thread
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import ServerFault, ServerInfo
from rosd_kit.serving.weight_transfer.base import (
    Bucket,
    LabeledWeights,
    WeightTransfer,
    buckets,
    with_last_flag,
)
from rosd_kit.sglang.weight_transfer.session import update_session

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_JOIN_TIMEOUT = timedelta(seconds=60)


class DistributedTransfer(WeightTransfer):
    """Broadcasts each bucket to the ranks of one server. Each server has its own group, so that one can be replaced.

    `host` is the address at which servers reach the trainer.
    """

    def __init__(self, *, host: str, device: torch.device) -> None:
        self._host = host
        self._device = device
        self._groups: dict[Client, tuple[str, ProcessGroup]] = {}
        self._numbers = itertools.count()

    async def send(self, weights: LabeledWeights, client: Client, info: ServerInfo) -> int:
        try:
            name, group = self._groups.get(client) or await self._join(client, info)
            sent_bytes = 0
            async with update_session(client, info):
                for bucket, is_last in with_last_flag(buckets(weights.tensors())):
                    sent_bytes += await self._send_bucket(client, name, group, bucket, weights.label if is_last else None)
            return sent_bytes
        except BaseException:
            await self._leave(client)  # a group is unusable after a failed broadcast or when its server is gone
            raise

    async def close(self) -> None:
        for client in list(self._groups):
            await self._leave(client)

    async def _join(self, client: Client, info: ServerInfo) -> tuple[str, ProcessGroup]:
        """Create a group with one server: the trainer is rank 0, the server's ranks follow."""
        name = f"rosd-kit-{id(self):x}-{next(self._numbers)}"
        backend, size = "nccl" if self._device.type == "cuda" else "gloo", 1 + info.ranks
        port = _free_port(self._host)
        invitation = {
            "master_address": self._host,
            "master_port": port,
            "rank_offset": 1,
            "world_size": size,
            "group_name": name,
            "backend": backend,
        }
        group = await _run_both(
            _in_thread(self._device, _open_group, self._host, port, size, name, backend),
            client.post("/init_weights_update_group", invitation),
        )
        self._groups[client] = (name, group)
        return name, group

    async def _leave(self, client: Client) -> None:
        if client not in self._groups:
            return
        name, group = self._groups.pop(client)
        with suppress(Exception):
            await client.post("/destroy_weights_update_group", {"group_name": name})
        with suppress(Exception):
            torch.distributed.destroy_process_group(group)

    async def _send_bucket(
        self, client: Client, group_name: str, group: ProcessGroup, bucket: Bucket, label: str | None
    ) -> int:
        tensors = [tensor.to(self._device).contiguous() for _, tensor in bucket]
        request = {
            "names": [name for name, _ in bucket],
            "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in tensors],
            "shapes": [list(tensor.shape) for tensor in tensors],
            "group_name": group_name,
            "flush_cache": False,
            **({"weight_version": label} if label else {}),
        }
        await _run_both(
            _in_thread(self._device, _broadcast, tensors, group),
            client.post("/update_weights_from_distributed", request),
        )
        return sum(tensor.nbytes for tensor in tensors)


async def _in_thread(device: torch.device, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Run `work` as `asyncio.to_thread` does, but in a daemon thread: a call stuck on a dead server must not block exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(deliver: Callable[[], None]) -> None:
        if not future.done():
            deliver()

    def run() -> None:
        try:
            use_in_this_thread(device)
            deliver = partial(future.set_result, work(*arguments))
        except Exception as error:
            deliver = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, deliver)

    threading.Thread(target=run, name="rosd-kit-group", daemon=True).start()
    return await future


async def _run_both(work: Coroutine[object, None, T], request: Coroutine[object, None, object]) -> T:
    """Run the trainer's side while the server runs its own; return the trainer's result.

    If either side fails, stop waiting for the other.
    """
    trainer, server = asyncio.ensure_future(work), asyncio.ensure_future(request)
    done, _ = await asyncio.wait({trainer, server}, return_when=asyncio.FIRST_EXCEPTION)
    for future in done:
        error = future.exception()
        if error is not None:
            server.cancel()
            trainer.add_done_callback(lambda future: future.cancelled() or future.exception())
            raise ServerFault("unavailable", str(error)) if isinstance(error, RuntimeError) else error
    return trainer.result()


def _open_group(host: str, port: int, size: int, name: str, backend: str) -> ProcessGroup:
    """Open the trainer's side, as `init_process_group` does, without replacing the default group of the trainer's ranks."""
    store = TCPStore(host, port, size, is_master=True, timeout=_JOIN_TIMEOUT, wait_for_workers=False)
    group: ProcessGroup
    group, _ = distributed_c10d._new_process_group_helper(
        size,
        0,
        [],
        distributed_c10d.Backend(backend),
        PrefixStore(name, store),
        group_name=distributed_c10d.GroupName(name),
        timeout=_JOIN_TIMEOUT,
    )
    distributed_c10d._world.pg_group_ranks[group] = {rank: rank for rank in range(size)}
    return group


def _broadcast(tensors: Sequence[Tensor], group: ProcessGroup) -> None:
    for tensor in tensors:
        torch.distributed.broadcast(tensor, group_src=0, group=group)
    if tensors and tensors[0].is_cuda:
        torch.cuda.synchronize(tensors[0].device)


def _free_port(host: str) -> int:
    with socket.socket() as candidate:
        candidate.bind((host, 0))
        return int(candidate.getsockname()[1])
