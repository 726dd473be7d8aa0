"""Builds a pool of replicas from a recipe's options: HTTP clients, server processes, and the transfer of their weights."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import RecipeError
from rosd_kit.serving.client import Client
from rosd_kit.serving.options import ServedOptions
from rosd_kit.serving.pool import Pool
from rosd_kit.serving.replica import AddMetric, Replica, RetryLimits
from rosd_kit.serving.server import ServerCommand, ServerProcess
from rosd_kit.serving.weight_transfer import DiskTransfer, WeightTransfer
from rosd_kit.types import PolicyWeights

Options = TypeVar("Options", bound=ServedOptions)

_MEMORY_BACKED = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class PoolFactory(ABC, Generic[Options]):
    """Builds the pools of one engine. `config` and `site` are the engine's; `name` separates its files from those of others."""

    client_class: ClassVar[type[Client]]

    student: Policy
    config: Options
    site: Site
    folder: Path
    name: str
    progress: Callable[[str], None]
    add_metric: AddMetric

    def create(self, urls: Sequence[str], which: PolicyWeights) -> Pool:
        """Return a pool of the servers at `urls`, or of launched ones if there are none. Call it inside the event loop."""
        config, transfer = self.config, self.transfer(which)
        servers: list[tuple[str, ServerProcess | None]] = [(url, None) for url in urls]
        if not servers:
            servers = [(process.command.url, process) for process in self._processes(which)]
        limits = RetryLimits(
            launch_seconds=config.launch.deadline, return_seconds=config.patience, relaunches=config.relaunches
        )
        replicas = [
            Replica(
                self.client(url),
                process=process,
                transfer=transfer,
                limits=limits,
                progress=self.progress,
                add_metric=self.add_metric,
            )
            for url, process in servers
        ]
        router = self.router() if which == "live" else None
        return Pool(
            replicas,
            transfer=transfer,
            concurrency=config.concurrency,
            tries=config.tries,
            add_metric=self.add_metric,
            router=router,
        )

    def client(self, url: str) -> Client:
        """Return a client of the server at this address."""
        config = self.config
        return self.client_class(url, timeout=config.timeout, api_key=self.api_key(), any_version=config.any_version)

    @abstractmethod
    def commands(self, which: PolicyWeights) -> list[ServerCommand]:
        """Return one command per server that this rank launches for these weights."""

    def transfer(self, which: PolicyWeights) -> WeightTransfer:
        """Return the way in which these weights reach the servers."""
        return DiskTransfer(self._sync_folder(which), self.student.model.config.save_pretrained)

    def router(self) -> Client | None:
        """Return a client of the router in front of the servers, if there is one."""
        return None

    def api_key(self) -> str | None:
        """Return the servers' API key. Raises `RecipeError` if the variable that should hold it is not set."""
        name = self.config.api_key_env
        if name is not None and not os.environ.get(name):
            raise RecipeError(f"rollout.api_key_env: the environment variable {name!r} is not set. Set it, or use null.")
        return os.environ[name] if name is not None else None

    def _processes(self, which: PolicyWeights) -> list[ServerProcess]:
        commands, name = self.commands(which), self.client_class.engine.lower()
        name = f"{name}-initial" if which == "initial" else name
        logs = [self.folder / (f"{name}-{number}.log" if number else f"{name}.log") for number in range(len(commands))]
        return [ServerProcess(command, log) for command, log in zip(commands, logs, strict=True)]

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
