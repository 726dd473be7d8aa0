"""The recipe's sections `optimizer`, `batch` and `parallel`: how samples become new weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rosd_kit.options import Config, Fixed

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimizerSettings(Config):
    """The update rule, with linear warm-up."""

    excluded_by_schedule: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "lr": {"warmup_steps": 0, "decay": "constant", "schedule_steps": None}
    }

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`muon` (torch.optim.Muon) orthogonalises the updates of matrices; embeddings, norms and head stay with AdamW.
    `adamw8bit` (bitsandbytes) keeps AdamW's two averages in 8 bits each."""
    master_weights: bool = True
    """Keep a float32 copy of trained bfloat16 weights and update that; otherwise most updates are rounded away."""
    muon_factor: PositiveFloat = 7.0
    """With `muon`, the learning rate of matrices is `lr` times this."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    warmup_steps: Annotated[NonNegativeInt, Fixed("it is the length of the warm-up")] = 10
    """Updates over which the rate rises linearly."""
    warmup: Literal["above_zero", "from_zero"] = "above_zero"
    """Where the warm-up of N steps begins: the first update has 1/N of the rate under `above_zero`, and rate 0 under
    `from_zero`, which is how transformers' schedules warm up; the full rate comes with update N, or with the one after it."""
    decay: Literal["constant", "cosine"] = "constant"
    """How the rate falls after the warm-up; `cosine` ends at 5 %. For other curves give `lr` a schedule."""
    schedule_steps: Annotated[PositiveInt | None, Fixed("it is the length of the schedule")] = None
    """Steps over which the rate decays; null: the run's `steps`. Give it to a run that may later be continued with more."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of the moment estimates."""
    clip: PositiveFloat = 1.0
    """Clips the gradient to this norm."""
    updates_per_batch: Annotated[PositiveInt, Fixed("checkpoints stand between steps")] = 1
    """Updates per step: the step's problems are cut into so many mini-batches, in order, with an update each. The log-probs of
    sampling stay those of the step's beginning; the learning rate counts steps."""
    max_bad_steps: Annotated[PositiveInt, Fixed("it says when to stop")] = 3
    """Stop the run after this many consecutive updates were skipped for a NaN or infinity."""


class BatchSettings(Config):
    """How a step's samples are cut into micro-batches that fit into memory. Never changes the loss."""

    fixed_because: ClassVar[str] = "memory is planned for it"

    tokens: PositiveInt = 16384
    """Most tokens per micro-batch, padding included."""
    layout: Literal["auto", "padded", "packed", "shared"] = "auto"
    """`packed`: sequences one after the other, without padding. `shared`: packed, and common prefixes run once. `auto` packs
    with flash attention, shares with sdpa if every layer attends to the whole sequence, and pads otherwise, also where the
    model's log-probs are not the same in the other layout."""
    chunk_mib: PositiveInt = 512
    """Most memory for the logits of one chunk of weighted tokens, student and teacher together, in MiB."""


class ParallelSettings(Config):
    """Several ranks, one per device, started by torchrun or accelerate launch."""

    fixed_because: ClassVar[str] = "the ranks are started once"

    mode: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """`ddp`: every rank holds the whole model. `fsdp`: the layers are sharded across ranks (FSDP2). `auto` follows the
    launcher. A run that was launched in another mode stops at once."""
    processes: PositiveInt | None = None
    """How many ranks must have been started; null accepts any number."""
    timeout_minutes: Annotated[float, Field(gt=0, le=100_000)] = 60.0
    """How long a rank waits for the others; must exceed the slowest rollouts of a step."""
