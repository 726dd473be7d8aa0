"""Builds a pool of replicas from a recipe's options: HTTP clients, server processes, and the transfer of their weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import RecipeError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import EngineOptions
from rosd_kit.sglang.pool import Pool
from rosd_kit.sglang.replica import AddMetric, Replica, RetryLimits
from rosd_kit.sglang.server import ServerProcess
from rosd_kit.sglang.weight_transfer import DiskTransfer, DistributedTransfer, TensorTransfer, WeightTransfer
from rosd_kit.types import PolicyWeights

_MEMORY_BACKED = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class PoolFactory:
    """Builds the pools of one engine. `config` and `site` are the engine's; `name` separates its files from those of others."""

    student: Policy
    config: EngineOptions
    site: Site
    folder: Path
    name: str
    progress: Callable[[str], None]
    add_metric: AddMetric

    def create(self, urls: Sequence[str], which: PolicyWeights) -> Pool:
        """Return a pool of the servers at `urls`, or of launched ones if there are none. Call it inside the event loop."""
        config, transfer = self.config, self._transfer(which)
        servers: list[tuple[str, ServerProcess | None]] = [(url, None) for url in urls]
        if not servers:
            servers = [(process.command.url, process) for process in self._processes()]
        limits = RetryLimits(
            launch_seconds=config.launch.deadline, return_seconds=config.patience, relaunches=config.relaunches
        )
        replicas = [
            Replica(
                self._client(url),
                process=process,
                transfer=transfer,
                limits=limits,
                progress=self.progress,
                add_metric=self.add_metric,
            )
            for url, process in servers
        ]
        router = self._client(config.router) if config.router and which == "live" else None
        return Pool(
            replicas,
            transfer=transfer,
            concurrency=config.concurrency,
            tries=config.tries,
            add_metric=self.add_metric,
            router=router,
        )

    def _processes(self) -> list[ServerProcess]:
        commands = launch_commands(
            self.student,
            self.config.launch,
            site=self.site,
            folder=self.folder,
            colocated=self.config.colocated,
            api_key=self._api_key(),
        )
        logs = [self.folder / (f"sglang-{number}.log" if number else "sglang.log") for number in range(len(commands))]
        return [ServerProcess(command, log) for command, log in zip(commands, logs, strict=True)]

    def _client(self, url: str) -> Client:
        config = self.config
        return Client(url, timeout=config.timeout, api_key=self._api_key(), any_version=config.any_version)

    def _api_key(self) -> str | None:
        name = self.config.api_key_env
        if name is not None and not os.environ.get(name):
            raise RecipeError(f"rollout.api_key_env: the environment variable {name!r} is not set. Set it, or use null.")
        return os.environ[name] if name is not None else None

    def _transfer(self, which: PolicyWeights) -> WeightTransfer:
        self._check_way()
        if self.config.sync == "tensor":
            return TensorTransfer()
        if self.config.sync == "distributed":
            return DistributedTransfer(host=self.config.sync_host, device=self.student.device)
        return DiskTransfer(self._sync_folder(which), self.student.model.config.save_pretrained)

    def _check_way(self) -> None:
        """Raise `RecipeError` for a way of transferring weights that GPUs do not offer."""
        config = self.config
        if self.student.device.type != "cuda":
            return
        if config.sync == "tensor" and config.launch.devices and not config.url:
            raise RecipeError(
                "rollout.sync: 'tensor' hands over GPU memory, which only a server on the same GPU can map, and "
                f"rollout.launch.devices={config.launch.devices} puts the servers on others. Use disk or distributed."
            )
        if config.sync == "distributed" and config.colocated:
            raise RecipeError(
                "rollout.sync: 'distributed' is not possible with rollout.colocated: NCCL refuses two processes on one GPU. "
                "Use tensor or disk."
            )

    def _sync_folder(self, which: PolicyWeights) -> Path:
        """Return the folder that servers load weights from: in memory if four times the weights' size is free there.

        Two sets of weights exist at once while servers load the newer one; the rest is headroom.
        """
        name = f"rosd-kit-{self.name}-{which}"
        if self.config.sync_dir:
            return Path(self.config.sync_dir).absolute() / name
        if _MEMORY_BACKED.is_dir() and os.access(_MEMORY_BACKED, os.W_OK):
            space = os.statvfs(_MEMORY_BACKED)
            needed = 4 * sum(weight.nbytes for weight in self.student.model.parameters())
            if space.f_bavail * space.f_frsize > needed:
                return _MEMORY_BACKED / name
        return self.folder.absolute() / name
