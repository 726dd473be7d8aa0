"""Builds a pool of SGLang servers from a recipe's options: their clients, their commands, and the transfer of their weights."""

from __future__ import annotations

from rosd_kit.errors import RecipeError
from rosd_kit.serving.client import Client
from rosd_kit.serving.factory import PoolFactory
from rosd_kit.serving.server import ServerCommand
from rosd_kit.serving.weight_transfer import WeightTransfer
from rosd_kit.sglang.client import SGLangClient
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import EngineOptions
from rosd_kit.sglang.weight_transfer import DistributedTransfer, TensorTransfer
from rosd_kit.types import PolicyWeights


class SGLangPoolFactory(PoolFactory[EngineOptions]):
    """Builds the pools of `rollout: sglang`."""

    client_class = SGLangClient

    def router(self) -> Client | None:
        return self.client(self.config.router) if self.config.router else None

    def commands(self, which: PolicyWeights) -> list[ServerCommand]:
        return launch_commands(
            self.student,
            self.config.launch,
            which=which,
            site=self.site,
            folder=self.folder,
            colocated=self.config.colocated,
            api_key=self.api_key(),
        )

    def transfer(self, which: PolicyWeights) -> WeightTransfer:
        self._check_way()
        if self.config.sync == "tensor":
            return TensorTransfer()
        if self.config.sync == "distributed":
            return DistributedTransfer(host=self.config.sync_host, device=self.student.device)
        return super().transfer(which)

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
