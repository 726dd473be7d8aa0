"""Options of the engine that are sections of their own."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from rosd_kit.contracts import Config


class Launch(Config):
    """Servers that the run starts and stops itself; of several processes each starts its own."""

    python: str | None = None
    """Interpreter that has SGLang installed; null takes the one that runs rosd-kit."""
    args: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Arguments of `sglang.launch_server`: `mem_fraction_static: 0.5` becomes `--mem-fraction-static 0.5`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the servers."""
    host: str = "127.0.0.1"
    """Address to listen on. Whoever reaches it can replace the model; keep it loopback unless the network is yours."""
    port: NonNegativeInt = 0
    """Port of the first server, the others follow; 0 takes free ones."""
    servers: PositiveInt = 1
    """How many for each process, each with the whole model (data parallel)."""
    devices: list[str] = Field(default_factory=list)
    """`CUDA_VISIBLE_DEVICES` of each server on a machine in turn, for example `["4,5", "6,7"]`; empty leaves it as it is, but a
    colocated server gets its process's device."""
    deadline: PositiveFloat = 900.0
    """Seconds until a server must be ready."""


class ProbeSettings(Config):
    """When engine and trainer are compared, and how far apart they may be."""

    every: NonNegativeInt = 50
    """Compare sampled log-probs at step 0 and after so many steps each; 0 never."""
    samples: PositiveInt = 8
    """Responses that are compared."""
    probe: bool = True
    """After each transfer of weights, score a few fixed tokens on both sides."""
    max_difference: PositiveFloat | None = None
    """Largest difference of one log-prob in nats; null: 0.02 in float32, 2 with bfloat16."""
    mean_difference: PositiveFloat | None = None
    """Largest mean difference in nats; null: 0.002 in float32, 0.05 with bfloat16."""
