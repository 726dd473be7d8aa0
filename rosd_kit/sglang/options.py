"""Options of `rollout: sglang`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rosd_kit.options import Trusted
from rosd_kit.serving import options as shared
from rosd_kit.serving.options import HOST, URL, ServedOptions


class Launch(shared.Launch):
    """Servers that the run starts and stops itself; under data parallelism each rank starts its own."""

    python: Annotated[str | None, Trusted("can start any program")] = None
    """Interpreter that has SGLang installed; null takes the one that the environment variable `ROSD_KIT_SGLANG_PYTHON` names,
    else the one that runs rosd-kit."""
    args: Annotated[dict[str, bool | int | float | str], Trusted("can make a server run code or reach hosts")] = Field(
        default_factory=dict
    )
    """Arguments of `sglang.launch_server`: `mem_fraction_static: 0.5` becomes `--mem-fraction-static 0.5`."""


class EngineOptions(ServedOptions):
    """Servers, transfer of weights, and checks."""

    on_other_gpus: ClassVar[str] = "colocated=false and sync=disk or distributed"

    router: Annotated[str | None, URL] = None
    """SGLang's router in front of `url`: requests go through it, weights still go to each server."""
    launch: Launch = Launch()
    """How to launch servers if there is no `url`."""
    sync: Literal["disk", "tensor", "distributed"] = "disk"
    """How weights reach the servers: files, memory of the same host, or a process group (NCCL on GPUs, gloo on CPUs)."""
    sync_dir: str | None = None
    """Folder for `disk` that trainer and servers both see; null: memory-backed if there is space, else the run's folder."""
    sync_host: Annotated[str, HOST] = "127.0.0.1"
    """Address at which servers reach the trainer, for `distributed`."""
    any_version: bool = False
    """Accept an SGLang version that this client was not tested with."""

    @model_validator(mode="after")
    def _router_has_servers(self) -> Self:
        if self.router and not self.url:
            raise ValueError("router needs url: the servers behind it, to which the weights are sent")
        return self
