"""The recipe's section `model`: the student, its adapters, its chat template."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from rosd_kit.options import Config, Trusted

#: Options of a chat template.
TemplateOptions = dict[str, bool | int | float | str]
ChatRole = Literal["student", "teacher", "reflector", "evaluation"]


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
