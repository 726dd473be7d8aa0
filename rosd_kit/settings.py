"""The core sections of a recipe: model, sampling, optimizer, evaluation, checkpoints and so on.

Options of components live with the components. Each value's docstring gives its meaning and unit; the JSON Schema shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from rosd_kit.options import Config, Fixed, Trusted
from rosd_kit.text.thinking import check_pairs
from rosd_kit.types import Sampling

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
#: A number of vocabulary entries, 0 for all; no vocabulary has more than samplers can count.
TopK = Annotated[int, Field(ge=0, lt=1 << 31)]
#: A size by which memory is planned.
#: More of these no run of this kit could work on: beyond, a number is a mistake.
_MOST_PROBLEMS, _MOST_SAMPLES = 1 << 20, 1 << 16
_Planned = Annotated[PositiveInt, Fixed("memory is planned for it")]
_StopString = Annotated[str, StringConstraints(min_length=1)]
#: Options of a chat template.
TemplateOptions = dict[str, bool | int | float | str]


class LoraSettings(Config):
    """Low-rank adapters (peft): only they are trained."""

    fixed_because: ClassVar[str] = "the model is built once"

    path: str | None = None
    """A folder with an adapter to start from, as peft saves it; `rank`, `alpha` and `target_modules` are then the adapter's."""
    export: Literal["merged", "adapter"] = "merged"
    """What a finished run writes: the model with the adapter merged into it, or the adapter for peft."""
    rank: int = Field(default=16, ge=1, le=1 << 16)
    """Rank of the update matrices."""
    alpha: PositiveInt = 32
    """Scale: the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter's input while training."""
    target_modules: str | list[str] = "all-linear"
    """Module names to adapt, or `all-linear`."""


ChatRole = Literal["student", "teacher", "reflector", "evaluation"]


class ChatSettings(Config):
    """Options of the chat template for one kind of prompt, merged over `model.chat_template_kwargs`."""

    student: TemplateOptions = Field(default_factory=dict)
    """For the prompts of training rollouts, for example `{enable_thinking: false}`."""
    teacher: TemplateOptions = Field(default_factory=dict)
    """For the teacher's prompts, which the same responses follow."""
    reflector: TemplateOptions = Field(default_factory=dict)
    """For the prompts of reflections."""
    evaluation: TemplateOptions = Field(default_factory=dict)
    """For the prompts of evaluations; those of `student` are not taken over."""

    def of(self, role: ChatRole) -> TemplateOptions:
        """Return the options for one kind of prompt."""
        options: TemplateOptions = getattr(self, role)
        return options


class ModelSettings(Config):
    """The student."""

    path: str = "micro"
    """`micro` or `micro-reasoning` (the embedded models), a local folder, `package:NAME` (an installed package that holds one),
    or a hub name."""
    revision: str | None = None
    """Branch, tag or commit of a hub model. A run records the commit it resolved to in its own recipe."""
    gguf: str | None = None
    """A GGUF file to read model and tokenizer from; quantised weights are unpacked to `dtype`."""
    pickle_weights: Annotated[bool, Trusted("can read pickles, which may run code")] = False
    """Allow weights that exist only as pickles (`pytorch_model.bin`); torch then loads nothing but tensors."""
    unknown_tokens: float = Field(default=0.1, ge=0.0, le=1.0)
    """Largest share of unknown tokens in what the model is to read: problems, worked solutions, and the prompts of reflector
    and teacher. A text above it is refused, because its words never reach the model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights during training; for the trained ones see `optimizer.master_weights`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; `auto` uses a GPU if there is one."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    """Attention implementation of transformers."""
    tree_attention: Literal["auto", "segments", "flex"] = "auto"
    """How the layout `shared` attends: `segments` calls torch's attention for each, `flex` calls FlexAttention once for all.
    `auto` takes `flex` on a GPU for many short segments, if a trial at the start succeeds."""
    kernels: Literal["plain", "liger", "compile"] = "plain"
    """Kernels of norms, rotary embeddings and gated activations: torch's own, those of liger-kernel (on a GPU), or
    `torch.compile`'s (norms and gates; the first steps take up to a minute longer)."""
    lora: LoraSettings | None = None
    """Train adapters only; null trains all weights."""
    freeze: list[str] = Field(default_factory=list)
    """Weights that are not trained, by name patterns with `*` and `?`: `["model.embed_tokens.*", "model.layers.?.*"]`."""
    dropout: bool = False
    """Train with the dropout, layer drop and router noise of the model's config. They are off by default, because rollouts are
    sampled without them and importance ratios would start away from 1; `lora.dropout` is separate."""
    gradient_checkpointing: Literal[False, True, "selective", "auto"] = False
    """Recompute activations in the backward pass to save memory: `true` recomputes whole layers, `selective` only what
    is cheap: everything but matrix products and attention; `auto` as little as fits into the memory that is free."""
    trust_remote_code: Annotated[bool, Trusted("can run Python code that comes with a model")] = False
    """Run Python code that comes with a model. Leave this off unless you have read that code."""
    chat_template_kwargs: TemplateOptions = Field(default_factory=dict)
    """Passed to the chat template, for example `{enable_thinking: false}`."""
    chat: ChatSettings = ChatSettings()
    """More options for the chat template: those of the student's, teacher's, reflector's or evaluation's prompts alone."""
    chat_template: str | None = None
    """A Jinja file to use instead of the tokenizer's own chat template."""
    system_role: Literal["merge", "refuse"] = "merge"
    """If the chat template has no system role: prepend system texts to the next user message (counted in
    `prompt/system_merged`), or refuse."""

    @model_validator(mode="after")
    def _freezing_needs_weights_to_train(self) -> Self:
        if self.freeze and self.lora is not None:
            raise ValueError("freeze is for training all weights; under model.lora choose model.lora.target_modules")
        return self


class SamplingSettings(Config):
    """How training rollouts are sampled."""

    temperature: PositiveFloat = 1.0
    """Softmax temperature."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus mass; 1 samples from the full distribution."""
    top_k: TopK = 0
    """Sample among this many of the likeliest tokens; 0 among all. Applied before `top_p`."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    """Sample no token that is less likely than this share of the likeliest one's probability; 0 turns it off. Applied after
    `top_p`."""
    stop: list[_StopString] = Field(default_factory=list)
    """Texts that end a response, as an end token does: `["###"]`. The text and the whole token that completes it stay in the
    response, because they are trained on."""
    max_prompt_tokens: _Planned = 2048
    """Longer student prompts are never cut; they end as `overlong`."""
    max_new_tokens: _Planned = 8192
    """Longest response, end token included."""
    max_teacher_prompt_tokens: _Planned = 10240
    """Budget of the teacher's prompt; privileged sections are shortened to fit."""
    prefetch: Literal[0, 1] = 0
    """1: sample the next batch while the current one trains, with weights one update older (one step off-policy). Needs memory
    for another copy of the weights."""

    def to_request(self) -> Sampling:
        """Return what a request for a rollout asks of the engine."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=tuple(self.stop),
            max_new_tokens=self.max_new_tokens,
        )


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


class EvaluationSettings(Config):
    """Evaluation before, during and after the run."""

    fixed_because: ClassVar[str] = "evaluations are compared with each other, so all are made alike"

    every: NonNegativeInt = 0
    """Evaluate every N steps; 0 only before and after the run."""
    problems: int = Field(default=64, ge=0, le=_MOST_PROBLEMS)
    """Problems per suite; 0 turns evaluation off."""
    samples: int = Field(default=4, ge=1, le=_MOST_SAMPLES)
    """Samples per problem; the metric is their mean (mean@k)."""
    temperature: NonNegativeFloat = 0.6
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Nucleus mass."""
    top_k: TopK | None = None
    """Sample among this many of the likeliest tokens, 0 among all; null: `sampling.top_k`, for a schedule that of step 0."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Least share of the likeliest token's probability; null: `sampling.min_p`, for a schedule that of step 0."""
    stop: list[_StopString] | None = None
    """Texts that end a response; null: `sampling.stop`."""
    max_new_tokens: PositiveInt | None = None
    """Longest response, end token included; null: `sampling.max_new_tokens`."""
    seed: int = 20260528
    """Chooses the held-out problems and samples. Separate from the run's seed, so that runs are comparable."""


class WatchSettings(Config):
    """When a run warns that its student is collapsing; null turns a warning off. Affects nothing but warnings."""

    fixed_because: ClassVar[str] = "it compares steps with each other"

    patience: PositiveInt = 5
    """A condition must hold for this many consecutive steps; a shorter run is judged by all its steps."""
    truncated: float | None = Field(default=0.25, ge=0.0, lt=1.0)
    """Warn when more than this share of the rollouts is cut off at the length limit."""
    success: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when success falls below this share of its initial value."""
    entropy: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when the rollouts' entropy falls below this share of its initial value and success has not risen."""
    variety: float | None = Field(default=0.5, gt=0.0, le=1.0)
    """Warn when the variety of wrong answers falls below this share of its initial value and success has not risen."""
    length: float | None = Field(default=3.0, gt=1.0)
    """Warn when responses become longer or shorter than at first by this factor."""
    leaks: float | None = Field(default=0.02, ge=0.0, lt=1.0)
    """Warn when the share of rollouts that mention a reference they cannot know has risen by more than this."""
    pass_at_k: float | None = Field(default=0.1, gt=0.0, le=1.0)
    """Warn when pass@k of the trained suites falls by more than this and the intervals do not overlap."""
    out_of_domain: float | None = Field(default=0.05, gt=0.0, le=1.0)
    """Warn when mean@k over the other suites falls by more than this and the paired interval excludes zero."""


class CheckpointSettings(Config):
    """Checkpoints to resume from."""

    fixed_because: ClassVar[str] = "it says when to save"

    every: NonNegativeInt = 20
    """Save every N steps; 0 only at the end."""
    keep: PositiveInt = 2
    """How many checkpoints to keep, newest first."""
    background: bool | None = None
    """Write while training goes on, from a copy in the CPU's memory; null: on a GPU. A run waits for the last one."""


class SamplesSettings(Config):
    """Records of rollouts, reflections and token weights."""

    fixed_because: ClassVar[str] = "it says when to write"

    every: NonNegativeInt = 1
    """Write the samples of every N-th step; 0 writes none."""
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of a step's groups whose rollouts are written, rounded up. Steps whose update was skipped are written whole."""


class TrackingSettings(Config):
    """Experiment trackers, besides the run's own folder."""

    to: Annotated[
        list[Literal["tensorboard", "trackio", "wandb", "mlflow"]],
        Trusted("can send metrics to a server, under your account", harmless=("tensorboard",)),
    ] = Field(default_factory=list)
    """Experiment trackers. `tensorboard` writes into the run's folder; so does `mlflow` unless MLFLOW_TRACKING_URI is set."""
    project: str = Field(default="rosd-kit", min_length=1)
    """Project (wandb, trackio) or experiment (mlflow) that the run belongs to."""


class CoreSettings(Config):
    """The fields of a recipe that are not slots."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the method, used for runs and reports. By default the recipe's file name."""
    seed: Annotated[int, Fixed("every random choice of the run depends on it")] = 0
    """Seeds the problems, the samples and every other random choice."""
    steps: Annotated[PositiveInt, Fixed("it is the length of the run")]
    """Optimizer steps of the whole run."""
    problems_per_step: Annotated[_Planned, Field(le=_MOST_PROBLEMS)]
    """Problems per step."""
    group_size: Annotated[_Planned, Field(le=_MOST_SAMPLES)]
    """Rollouts per problem."""
    model: ModelSettings = ModelSettings()
    """The student."""
    sampling: SamplingSettings = SamplingSettings()
    """How training rollouts are sampled, and the token budgets."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """The optimizer and its schedule."""
    batch: BatchSettings = BatchSettings()
    """How a step is cut into micro-batches that fit into memory."""
    parallel: ParallelSettings = ParallelSettings()
    """Several ranks."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out evaluation."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """Checkpoints to resume from."""
    samples: SamplesSettings = SamplesSettings()
    """Records of the rollouts."""
    watch: WatchSettings = WatchSettings()
    """When to warn that the student is collapsing."""
    tracking: TrackingSettings = TrackingSettings()
    """Experiment trackers, besides the run's own folder."""
    thinking: Annotated[tuple[tuple[str, str], ...], AfterValidator(check_pairs)] = ()
    """More marks around a model's thinking, (opening, closing), beside those that are known: `[["<ponder>", "</ponder>"]]`."""
