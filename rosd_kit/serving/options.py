"""Options of every rollout engine that samples with servers. An engine adds its own, and words for those that differ."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rosd_kit.contracts import RolloutEngine, Seconds
from rosd_kit.options import Config, Trusted

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOST = Trusted("can let others reach the servers", harmless=_LOOPBACK)
URL = Trusted("can send prompts and weights to a host")


class Launch(Config):
    """Servers that the run starts and stops itself; under data parallelism each rank starts its own."""

    fixed_because: ClassVar[str] = "the servers are started once"

    python: Annotated[str | None, Trusted("can start any program")] = None
    """Interpreter that has the server installed; null takes the one that the engine's environment variable names, else the one
    that runs rosd-kit."""
    args: Annotated[dict[str, bool | int | float | str], Trusted("can make a server run code or reach hosts")] = Field(
        default_factory=dict
    )
    """Arguments of the server: `some_name: 0.5` becomes `--some-name 0.5`, `true` a flag; `false` leaves it out."""
    env: Annotated[dict[str, str], Trusted("can make a server import other code")] = Field(default_factory=dict)
    """Environment variables of the servers."""
    host: Annotated[str, HOST] = "127.0.0.1"
    """Address to listen on. Anyone who can reach it can replace the model; keep it loopback unless you control the network."""
    port: NonNegativeInt = 0
    """Port of the first server; the others take the ports after it. 0 picks free ports."""
    servers: PositiveInt = 1
    """Servers per rank, each with the whole model (data parallel)."""
    initial_servers: NonNegativeInt = 0
    """More servers per rank, which keep the initial weights for frozen reflectors. With 0 the other servers swap weights. Not
    used with `url`: name such servers in `initial_url`."""
    devices: list[str] = Field(default_factory=list)
    """`CUDA_VISIBLE_DEVICES` of each server on a machine, for example `["4,5", "6,7"]`: first of all `servers`, then of all
    `initial_servers`. Empty leaves it unchanged, except that a colocated server gets the GPU of its rank."""
    deadline: Seconds = 900.0
    """Seconds until a server must be ready."""


class ProbeSettings(Config):
    """When engine and trainer are compared, and how much they may differ."""

    fixed_because: ClassVar[str] = "the servers are started once"

    every: NonNegativeInt = 50
    """Compare sampled log-probs at step 0 and every so many steps; 0 turns this off."""
    samples: PositiveInt = 8
    """Responses per comparison."""
    probe: bool = True
    """After each transfer of weights, score a few fixed tokens on both sides."""
    max_difference: PositiveFloat | None = None
    """Largest difference of one log-prob in nats; null: 0.02 in float32, 2 with bfloat16."""
    mean_difference: PositiveFloat | None = None
    """Largest mean difference in nats; null: 0.002 in float32, 0.1 with bfloat16."""
    median_difference: PositiveFloat | None = None
    """Largest median difference in nats; null: 0.002 in float32, 0.05 with bfloat16. The three are for temperature 1; a lower
    temperature multiplies log-probs, and these bounds with them."""


class ServedOptions(RolloutEngine.Config):
    """Servers, transfer of weights, and checks."""

    fixed_because: ClassVar[str] = "the servers are started once"
    #: The options that servers on other GPUs than the trainer's need, for a message.
    on_other_gpus: ClassVar[str] = "colocated=false"

    url: Annotated[str | list[str], URL] = Field(default_factory=list)
    """Running servers, for example `http://127.0.0.1:30000`. With none, servers are launched as `launch` says.

    Several ranks share them out: each rank uses its own servers and sends them its weights."""
    initial_url: Annotated[str | list[str], URL] = Field(default_factory=list)
    """Servers that keep the initial weights, for frozen reflectors. Without them, the other servers swap weights."""
    launch: Launch = Launch()
    """How to launch servers if there is no `url`."""
    sync_dir: str | None = None
    """Folder for weights in files that trainer and servers both see; null: memory-backed if there is space, else the run's
    folder."""
    colocated: bool = False
    """Trainer and server share a GPU: the server releases its memory while the trainer works."""
    concurrency: PositiveInt = 256
    """Maximum number of requests in flight per server."""
    timeout: Seconds = 600.0
    """Seconds without a response after which a request has failed."""
    tries: PositiveInt = 6
    """How often a request is tried."""
    relaunches: NonNegativeInt = 3
    """How often in a row a launched server is restarted without a response in between."""
    patience: Seconds = 120.0
    """Seconds to wait for a server at `url` to come back."""
    api_key_env: Annotated[str | None, Trusted("can send any environment variable to a host")] = None
    """Name of the environment variable that holds the servers' API key."""
    any_version: bool = False
    """Accept a version of the server that this client was not tested with."""
    check: ProbeSettings = ProbeSettings()
    """Comparison of engine and trainer."""

    @model_validator(mode="after")
    def _colocated_servers_share_the_gpu_of_their_rank(self) -> Self:
        launch = self.launch
        counts = {"servers": launch.servers, "initial_servers": launch.initial_servers}
        refused = ["devices"] * bool(launch.devices) + [f"{name}={number}" for name, number in counts.items() if number > 1]
        if self.colocated and refused and not self.url:
            raise ValueError(
                f"colocated and launch.{refused[0]} contradict each other: a colocated server, one per rank, shares the GPU of "
                f"its rank. For servers on other GPUs set {self.on_other_gpus}; else leave "
                f"launch.{refused[0].partition('=')[0]} out"
            )
        return self

    @model_validator(mode="after")
    def _one_place_names_the_servers_with_initial_weights(self) -> Self:
        if self.launched_for_initial and self.initial_url:
            raise ValueError(
                f"launch.initial_servers={self.launch.initial_servers} and initial_url contradict each other: servers with the "
                "initial weights are launched with the others, or named. Set launch.initial_servers=0 or initial_url=[]"
            )
        return self

    @property
    def launched_for_initial(self) -> int:
        """How many servers with the initial weights each rank launches: none beside servers that are named."""
        return 0 if self.url else self.launch.initial_servers
