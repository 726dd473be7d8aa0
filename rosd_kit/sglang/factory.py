"""From a recipe's options to the servers of a run: clients, launched processes, the way for their weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import RecipeError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.pool import Pool
from rosd_kit.sglang.replica import Count, Member, Patience
from rosd_kit.sglang.server import Server
from rosd_kit.sglang.weight_transfer import Carrier, DiskCarrier, DistributedCarrier, TensorCarrier

_MEMORY_BACKED = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Builds pools for one engine. `config` is the engine's; `name` sets the run's files apart from those of others.

    `site` is that of the engine.
    """

    student: Policy
    config: Any
    site: Site
    folder: Path
    name: str
    progress: Callable[[str], None]
    count: Count

    def pool(self, urls: Sequence[str], purpose: str) -> Pool:
        """Return the servers at some addresses, or launched ones where there are none; must be called in the event loop."""
        config, carrier = self.config, self._carrier(purpose)
        found: list[tuple[str, Server | None]] = [(url, None) for url in urls]
        if not found:
            found = [(server.command.url, server) for server in self._launched()]
        patience = Patience(ready=config.launch.deadline, back=config.patience, relaunches=config.relaunches)
        members = [
            Member(
                self._client(url),
                server=server,
                carrier=carrier,
                patience=patience,
                progress=self.progress,
                count=self.count,
            )
            for url, server in found
        ]
        router = self._client(config.router) if config.router and purpose == "live" else None
        return Pool(
            members,
            carrier=carrier,
            concurrency=config.concurrency,
            tries=config.tries,
            count=self.count,
            router=router,
        )

    def _launched(self) -> list[Server]:
        commands = launch_commands(
            self.student,
            self.config.launch,
            site=self.site,
            folder=self.folder,
            colocated=self.config.colocated,
            api_key=self._api_key(),
        )
        logs = [self.folder / (f"sglang-{number}.log" if number else "sglang.log") for number in range(len(commands))]
        return [Server(command, log) for command, log in zip(commands, logs, strict=True)]

    def _client(self, url: str) -> Client:
        config = self.config
        return Client(url, timeout=config.timeout, api_key=self._api_key(), any_version=config.any_version)

    def _api_key(self) -> str | None:
        name = self.config.api_key_env
        if name is not None and not os.environ.get(name):
            raise RecipeError(f"rollout.api_key_env: the environment has no {name!r}. Set it, or use null.")
        return os.environ[name] if name is not None else None

    def _carrier(self, purpose: str) -> Carrier:
        if self.config.sync == "tensor":
            return TensorCarrier()
        if self.config.sync == "distributed":
            return DistributedCarrier(host=self.config.sync_host, device=self.student.device)
        return DiskCarrier(self._sync_folder(purpose), self.student.model.config.save_pretrained)

    def _sync_folder(self, purpose: str) -> Path:
        """Return where weights are laid for servers: in memory where two sets of them fit twice over."""
        name = f"rosd-kit-{self.name}-{purpose}"
        if self.config.sync_dir:
            return Path(self.config.sync_dir).absolute() / name
        if _MEMORY_BACKED.is_dir() and os.access(_MEMORY_BACKED, os.W_OK):
            room = os.statvfs(_MEMORY_BACKED)
            needed = 4 * sum(weight.nbytes for weight in self.student.model.parameters())
            if room.f_bavail * room.f_frsize > needed:
                return _MEMORY_BACKED / name
        return self.folder.absolute() / name
