"""The rollout engine `vllm`: the engine of `rosd_kit.serving` with vLLM's options and routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

import rosd_kit as rk
from rosd_kit.serving import options as shared
from rosd_kit.serving.engine import ServedEngine

if TYPE_CHECKING:
    from rosd_kit.serving.factory import PoolFactory


class Launch(shared.Launch):
    """Servers that the run starts and stops itself; under data parallelism each rank starts its own."""

    python: Annotated[str | None, rk.Trusted("can start any program")] = None
    """Interpreter that has vLLM installed; null takes the one that the environment variable `ROSD_KIT_VLLM_PYTHON` names, else
    the one that runs rosd-kit."""
    args: Annotated[dict[str, bool | int | float | str], rk.Trusted("can make a server run code or reach hosts")] = Field(
        default_factory=dict
    )
    """Arguments of `vllm serve`: `gpu_memory_utilization: 0.5` becomes `--gpu-memory-utilization 0.5`."""


class VLLMEngine(ServedEngine):
    """Samples with vLLM servers, at `url` or launched with the run; sends them new weights every step and checks them."""

    name = "vllm"

    class Config(shared.ServedOptions):
        """Servers, transfer of weights, and checks."""

        launch: Launch = Launch()
        """How to launch servers if there is no `url`."""
        colocated: Literal[False] = False
        """Not offered: a server needs a GPU of its own."""

    Config.free_on_resume = frozenset(Config.model_fields)
    config: Config

    def pool_factory(self) -> type[PoolFactory[Any]]:
        from rosd_kit_vllm.launch import VLLMPoolFactory

        return VLLMPoolFactory

    @classmethod
    def missing_for_launch(cls, options: shared.ServedOptions, *, on_gpu: bool) -> list[str]:
        from rosd_kit.serving.interpreter import lacking
        from rosd_kit_vllm.launch import PROGRAM
        from rosd_kit_vllm.protocol import NEWEST, OLDEST

        return lacking(PROGRAM, options, (OLDEST, NEWEST), on_gpu=on_gpu)
