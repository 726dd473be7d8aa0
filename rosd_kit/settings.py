"""The sections of a recipe that belong to the core: model, sampling, optimizer, evaluation, checkpoints.

Component options live with their components. A value's meaning and unit stand in its docstring, from which the JSON
Schema and `rosd-kit show` take them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from rosd_kit.contracts import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class LoraSettings(Config):
    """Low-rank adapters (peft): only they are trained."""

    rank: PositiveInt = 16
    """Rank of the update matrices."""
    alpha: PositiveInt = 32
    """Scale: the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter's input while training."""
    target_modules: str | list[str] = "all-linear"
    """Module names to adapt, or `all-linear`."""


class ModelSettings(Config):
    """The student."""

    path: str = "micro"
    """`micro` (the embedded model), a local folder, `package:NAME` (an installed package that holds one), or a hub name."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; a run pins the commit that it stood for in its own recipe."""
    gguf: str | None = None
    """A file in GGUF format to read model and tokenizer from; quantised weights are unpacked to `dtype`."""
    pickle_weights: bool = False
    """Read weights that are there only as pickles (`pytorch_model.bin`), of which torch then takes tensors alone."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights while training; for those that are trained see `optimizer.master_weights`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; `auto` takes a GPU when there is one."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers."""
    lora: LoraSettings | None = None
    """Train adapters only; null trains all weights."""
    freeze: list[str] = Field(default_factory=list)
    """Weights that stay as they are, by name, with `*` and `?`: `["model.embed_tokens.*", "model.layers.?.*"]`."""
    gradient_checkpointing: Literal[False, True, "selective"] = False
    """Recompute activations in the backward pass to save memory: true all of a layer, `selective` what is cheap, which is all
    but matrix products and attention."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model. Leave it off unless you have read that code."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Passed to the chat template, for example `{enable_thinking: false}`."""
    chat_template: str | None = None
    """A Jinja file to use instead of the tokenizer's own chat template."""
    system_role: Literal["merge", "refuse"] = "merge"
    """Where the chat template has no system role: put system texts before the next message of the user (each is counted in
    `prompt/system_merged`), or refuse."""

    @model_validator(mode="after")
    def _freezing_needs_weights_to_train(self) -> Self:
        if self.freeze and self.lora is not None:
            raise ValueError("freeze is for training all weights; under model.lora choose model.lora.target_modules")
        return self


class SamplingSettings(Config):
    """How training rollouts are drawn."""

    temperature: PositiveFloat = 1.0
    """Softmax temperature."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus mass; 1 samples from the whole distribution."""
    max_prompt_tokens: PositiveInt = 2048
    """Longer student prompts are an outcome (`overlong`), never cut."""
    max_new_tokens: PositiveInt = 8192
    """Longest response, the end token included."""
    max_teacher_prompt_tokens: PositiveInt = 10240
    """Budget of the teacher's prompt; privileged sections are shortened to fit."""
    prefetch: Literal[0, 1] = 0
    """1: the next batch is sampled while the present one is trained on, with weights one update older. Takes memory for another
    copy of the weights."""


class OptimizerSettings(Config):
    """The update rule, with linear warm-up."""

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`muon` (torch.optim.Muon) orthogonalises the updates of matrices; embeddings, norms and head stay with AdamW.
    `adamw8bit` (bitsandbytes) keeps AdamW's two averages in 8 bits each."""
    master_weights: bool = True
    """Keep a float32 copy of trained bfloat16 weights and update that. Without, most updates are rounded away."""
    muon_factor: PositiveFloat = 7.0
    """Under `muon`, the matrices' learning rate is `lr` times this."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    warmup_steps: NonNegativeInt = 10
    """Steps over which the rate rises linearly from 0."""
    decay: Literal["constant", "cosine"] = "constant"
    """What the rate does after the warm-up."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of the moment estimates."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    max_bad_steps: PositiveInt = 3
    """The run stops after this many updates in a row were skipped for a NaN or infinity."""


class BatchSettings(Config):
    """How a step's samples are cut into pieces that fit the memory. Never changes the loss."""

    tokens: PositiveInt = 16384
    """Most tokens (padding included) in a micro-batch."""
    layout: Literal["auto", "padded", "packed", "shared"] = "auto"
    """`packed`: texts one after the other, without padding. `shared`: the same, and what several begin with runs once.
    `auto` packs under flash attention, shares where every layer attends to the whole text by sdpa, else pads."""
    chunk_mib: PositiveInt = 512
    """Most memory for the logits of one chunk of weighted tokens, student and teacher together, in MiB."""


class ParallelSettings(Config):
    """Several processes, one a device, started by torchrun or accelerate launch."""

    mode: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """`ddp`: every process holds the whole model. `fsdp`: the layers are cut up among them (FSDP2). `auto` takes what the
    launcher was configured for. A run that was started otherwise than asked for here stops at once."""
    processes: PositiveInt | None = None
    """How many must have been started; null takes any number."""
    timeout_minutes: PositiveFloat = 60.0
    """How long a process waits for the others; the slowest rollouts of a step must fit in."""


class EvaluationSettings(Config):
    """Evaluation before, during and after the run."""

    every: NonNegativeInt = 0
    """Evaluate every so many steps; 0 only before and after."""
    problems: NonNegativeInt = 64
    """Problems a suite; 0 turns evaluation off."""
    samples: PositiveInt = 4
    """Samples a problem; the metric is their mean (mean@k)."""
    temperature: NonNegativeFloat = 0.6
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Nucleus mass."""
    seed: int = 20260528
    """Chooses the held-out problems and samples; apart from the run's seed, so that runs are comparable."""


class WatchSettings(Config):
    """When a run warns that its student collapses; null turns a warning off. Nothing but warnings depends on it."""

    patience: PositiveInt = 5
    """A thing must have held for so many steps in a row; a shorter run is judged by all its steps."""
    success: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when success falls below this share of what it was at first."""
    entropy: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when the rollouts' entropy falls below this share of what it was at first, and success has not risen."""
    variety: float | None = Field(default=0.5, gt=0.0, le=1.0)
    """Warn when the variety of wrong answers falls below this share of what it was at first, and success has not risen."""
    length: float | None = Field(default=3.0, gt=1.0)
    """Warn when responses become so many times as long, or as short, as they were at first."""
    leaks: float | None = Field(default=0.02, ge=0.0, lt=1.0)
    """Warn when more than this share of rollouts, beyond the share at first, speaks of a reference that it cannot know."""
    pass_at_k: float | None = Field(default=0.1, gt=0.0, le=1.0)
    """Warn when pass@k of the trained suites falls by more than this, the interval of both leaving it no doubt."""
    out_of_domain: float | None = Field(default=0.05, gt=0.0, le=1.0)
    """Warn when mean@k falls by more than this on the mean of the other suites, and the paired interval leaves out zero."""


class CheckpointSettings(Config):
    """What is kept of a run for resuming it."""

    every: NonNegativeInt = 20
    """Save every so many steps; 0 only at the end."""
    keep: PositiveInt = 2
    """Newest checkpoints to keep."""


class SamplesSettings(Config):
    """What is written of the rollouts, reflections and weights."""

    every: NonNegativeInt = 1
    """Write the samples of every so many steps; 0 writes none."""


class TrackingSettings(Config):
    """Where a run is logged besides its own folder."""

    to: list[Literal["tensorboard", "trackio", "wandb", "mlflow"]] = Field(default_factory=list)
    """Experiment trackers. `tensorboard` writes into the run's folder; so does `mlflow` unless MLFLOW_TRACKING_URI is set."""
    project: str = Field(default="rosd-kit", min_length=1)
    """Project (wandb, trackio) or experiment (mlflow) that the run belongs to."""


class CoreSettings(Config):
    """The fields of a recipe that are no slots."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the method; runs and reports are called after it. The recipe's file name unless given."""
    seed: int = 0
    """Determines the problems, the samples and every random choice."""
    steps: PositiveInt
    """Optimizer steps of the whole run."""
    problems_per_step: PositiveInt
    """Problems in a step."""
    group_size: PositiveInt
    """Rollouts for each problem."""
    model: ModelSettings = ModelSettings()
    """The student."""
    sampling: SamplingSettings = SamplingSettings()
    """How training rollouts are drawn, and the token budgets."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its schedule."""
    batch: BatchSettings = BatchSettings()
    """How a step is cut into pieces that fit the memory."""
    parallel: ParallelSettings = ParallelSettings()
    """Several processes."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out evaluation."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """What is kept for resuming."""
    samples: SamplesSettings = SamplesSettings()
    """What is written of the rollouts."""
    watch: WatchSettings = WatchSettings()
    """When to warn that the student collapses."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run is logged besides its own folder."""
