"""Estimates what a device holds while a run trains and while it samples, line by line, from the recipe alone.

    weights      the model's weights, once
    copies       initial weights (without LoRA: of all trained weights), a moving average
    optimizer    float32 master weights of narrow types, the optimizer's moments
    gradients    of the trained weights, in their type
    activations  of the step's longest micro-batch, measured on the run's layout and model without weights (`live.py`)
    logits       the chunks and tiles of the head
    rollouts     key-value cache of a batch of rollouts, or SGLang's share of the device

All sequences are taken at their maximum length, so that the run still fits when its responses grow. Measures no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rosd_kit.memory.live import LiveMemory
from rosd_kit.memory.shapes import fused_attention, model_on_meta
from rosd_kit.model.packing import Layout, TokenSequence, build_layout, plan_micro_batches
from rosd_kit.model.split import SplitModel, split_model
from rosd_kit.model.tree_attention import use_kernel
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.serving.weight_transfer.sizes import BUCKET_BYTES
from rosd_kit.settings import OptimizerSettings
from rosd_kit.training.chunked_loss import tile_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


#: Float32 tensors over the vocabulary that exist at once for a tile of the loss: log-probs, their gradient, top-k sorts.
_TILE_TENSORS = 8
#: Bytes per logit while a token is sampled, besides the model's own: float32 logits, log-probs and probabilities, and float64
#: cumulative probabilities.
_SAMPLING_BYTES = 4 + 4 + 4 + 8


@dataclass(frozen=True, kw_only=True)
class Line:
    """Bytes of one kind on one device, while training and while sampling; `note` describes them."""

    what: str
    train: int
    sample: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """All lines of one device; `ranks` is the number of devices that hold the same.

    `wake` are the bytes while colocated servers take their weights' memory back, `transfer` those while weights are sent to
    servers; both are 0 without servers. `server` is what a colocated server takes while sampling.
    """

    lines: tuple[Line, ...]
    ranks: int
    wake: int = 0
    transfer: int = 0
    server: int = 0

    @property
    def train(self) -> int:
        """Bytes while training."""
        return sum(line.train for line in self.lines)

    @property
    def sample(self) -> int:
        """Bytes while sampling."""
        return sum(line.sample for line in self.lines)

    @property
    def peak(self) -> int:
        """The largest of all phases."""
        return max(self.train, self.sample, self.wake, self.transfer)


def estimate_memory(
    recipe: Recipe, components: BuiltComponents, *, device: str = "cpu", ranks: int = 1, device_bytes: int = 0
) -> MemoryEstimate:
    """Return the maximum that each device of a run will hold.

    `ranks` matters under `parallel.mode: fsdp`, which shards the layers. `device_bytes` is the memory of the device, of which a
    colocated SGLang takes a share. Raises `RunError` if the model's architecture is not known on this machine.
    """
    model = model_on_meta(recipe.model)
    weights = _WeightSizes.of(model, shards=ranks if recipe.parallel.mode == "fsdp" else 1)
    copies, copies_note = _copies(components, weights, lora=recipe.model.lora is not None)
    moments = _moments(recipe.optimizer, weights)
    student_forward, student_backward, teacher = _activations(recipe, components, model)
    head, hidden_gradient = _head(recipe, components, split_model(model), device)
    update = _update(recipe.optimizer, weights, device)
    transient = max(student_forward + head, student_backward + hidden_gradient, teacher, update)
    gathered = _gathered(recipe, components, model, weights)
    server, cache = _sampling(recipe, components, split_model(model), model, max(0, device_bytes - weights.bytes - copies))
    lines = [
        Line(
            what="weights",
            train=weights.bytes,
            sample=weights.bytes,
            note=f"{weights.parameters / 1e6:,.1f}M parameters in {recipe.model.dtype}",
        ),
        Line(what="copies of weights", train=copies, sample=copies, note=copies_note),
        Line(
            what="optimizer",
            train=moments,
            sample=moments,
            note=recipe.optimizer.name
            + (", float32 copies" if recipe.optimizer.master_weights and weights.trained_narrow else ""),
        ),
        Line(
            what="gradients",
            train=weights.trained_bytes,
            sample=0,
            note=f"{weights.trained_parameters / 1e6:,.1f}M parameters",
        ),
        Line(what="activations", train=max(0, transient - head), sample=0, note=f"batch.tokens={recipe.batch.tokens}"),
        Line(what="logits", train=min(head, transient), sample=0, note=f"batch.chunk_mib={recipe.batch.chunk_mib}"),
        Line(what="rollouts", train=0, sample=cache, note="key-value cache, sampling logits"),
    ]
    if recipe.rollout.name == "sglang":
        lines.append(Line(what="SGLang", train=0, sample=server, note="share of memory free at its start"))
    if gathered:
        lines.append(Line(what="gathered weights", train=0, sample=gathered, note="whole layers on every rank, copies too"))
    if recipe.rollout.name != "sglang":
        return MemoryEstimate(lines=tuple(lines), ranks=ranks)
    resident = weights.bytes + copies + moments + gathered
    wake = resident + (_whole_bytes(model) if server else 0)
    bucket = min(BUCKET_BYTES, _whole_bytes(model)) if getattr(recipe.rollout.options, "sync", "disk") != "disk" else 0
    return MemoryEstimate(lines=tuple(lines), ranks=ranks, wake=wake, transfer=wake + bucket, server=server)


def _whole_bytes(model: nn.Module) -> int:
    return sum(p.nbytes for p in model.parameters())


def _gathered(recipe: Recipe, components: BuiltComponents, model: nn.Module, weights: _WeightSizes) -> int:
    """Return the bytes by which whole layers exceed shards: every rank holds them while rollouts are sampled and sent weights.

    The initial weights, where there is a copy of them and something is sampled with them, are gathered with the student's.
    """
    copied = recipe.model.lora is None and components.samples_initial
    return (_whole_bytes(model) + sum(b.nbytes for b in model.buffers()) - weights.bytes) * (2 if copied else 1)


@dataclass(frozen=True, kw_only=True)
class _WeightSizes:
    """Sizes of the weights on one device, after sharding.

    `trained_narrow` counts trained parameters of fewer than 32 bits, `largest_trained` those of the largest trained tensor.
    `parameters` counts the whole model's, unsharded.
    """

    bytes: int
    trained_bytes: int
    parameters: int
    trained_parameters: int
    trained_narrow: int
    largest_trained: int

    @classmethod
    def of(cls, model: nn.Module, *, shards: int) -> _WeightSizes:
        """Sum a model's weights; its layers are sharded, everything else is whole on each rank."""
        names = set(getattr(model, "_no_split_modules", None) or ())
        layers = [module for module in model.modules() if type(module).__name__ in names]
        sharded = {id(p) for layer in layers for p in layer.parameters()}
        fractions = [(p, 1 / shards if id(p) in sharded else 1.0) for p in model.parameters()]
        trained = [(p, fraction) for p, fraction in fractions if p.requires_grad]
        return cls(
            bytes=int(sum(p.nbytes * fraction for p, fraction in fractions)) + sum(b.nbytes for b in model.buffers()),
            trained_bytes=int(sum(p.nbytes * fraction for p, fraction in trained)),
            parameters=sum(p.numel() for p in model.parameters()),
            trained_parameters=int(sum(p.numel() * fraction for p, fraction in trained)),
            trained_narrow=int(sum(p.numel() * fraction for p, fraction in trained if p.dtype.itemsize < 4)),
            largest_trained=max((p.numel() for p, _ in trained), default=0),
        )


def _copies(components: BuiltComponents, weights: _WeightSizes, *, lora: bool) -> tuple[int, str]:
    """Return the bytes of further copies of weights, and which copies these are."""
    needs_initial = any(component.wants_initial() for component in components)
    initial = weights.trained_bytes if needs_initial and not lora else 0
    teacher = components.teacher.extra_bytes(weights.trained_parameters, weights.trained_narrow)
    names = [name for name, size in (("initial weights", initial), ("the teacher's", teacher)) if size]
    return initial + teacher, ", ".join(names) or ("none: the adapter is switched off" if needs_initial else "none")


def _moments(settings: OptimizerSettings, weights: _WeightSizes) -> int:
    """Return the bytes of the optimizer's moments and float32 master weights."""
    master_weights = 4 * weights.trained_narrow if settings.master_weights else 0
    per_parameter = {"adamw": 8.0, "adamw8bit": 2.0 + 2 * 4 / 256, "muon": 4.0}[settings.name]
    narrow = weights.trained_narrow if not settings.master_weights and settings.name != "adamw8bit" else 0
    return master_weights + int(per_parameter * weights.trained_parameters) - int(per_parameter / 2 * narrow)


def _update(settings: OptimizerSettings, weights: _WeightSizes, device: str) -> int:
    """Return the temporary bytes of an update: float32 gradients of a group of weights, and unfused intermediate results."""
    group = min(4 * weights.trained_parameters, (1 << 30) + 4 * weights.largest_trained)
    float32_gradients = group if weights.trained_narrow and settings.master_weights else 0
    if settings.name == "adamw":
        return float32_gradients
    return float32_gradients + (2 * group if device == "cuda" else 2 * 4 * weights.largest_trained)


def _sequences(recipe: Recipe, prompt_tokens: int) -> list[TokenSequence]:
    """Return a step's sequences at their maximum length; those of a problem share its prompt and nothing else."""
    return [
        TokenSequence((-1 - problem,) * prompt_tokens, (rollout,) * recipe.sampling.max_new_tokens, problem)
        for problem in range(recipe.problems_per_step)
        for rollout in range(recipe.group_size)
    ]


def _longest_micro_batch(recipe: Recipe, model: SplitModel, prompt_tokens: int) -> Layout:
    mode = model.layout_mode(recipe.batch.layout)
    sequences = _sequences(recipe, prompt_tokens)
    groups = plan_micro_batches(sequences, budget=recipe.batch.tokens, mode=mode, can_cache_prefix=model.can_cache_prefix)
    largest = max(groups, key=lambda group: sum(len(sequences[i].ids) for i in group.indices))
    return build_layout([sequences[i] for i in largest.indices], pad_id=0, mode=mode, prefix=largest.prefix)


def _activations(recipe: Recipe, components: BuiltComponents, model: PreTrainedModel) -> tuple[int, int, int]:
    """Return the bytes that the student's forward pass saves, the peak of its backward pass, and the teacher's peak.

    Gradients of weights are not included.
    """
    network = _split_for(recipe, model)
    student = LiveMemory()
    model.train()
    with student, use_kernel(fused_attention):
        hidden = network.hidden(_longest_micro_batch(recipe, network, recipe.sampling.max_prompt_tokens))
        forward = student.now
        torch.autograd.backward(hidden, torch.empty_like(hidden))
        del hidden
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    for parameter in model.parameters():
        parameter.grad = None
    teacher = LiveMemory()
    if any(term.objective.needs_teacher for term in components.objectives):
        with torch.no_grad(), teacher, use_kernel(fused_attention):
            network.hidden(_longest_micro_batch(recipe, network, recipe.sampling.max_teacher_prompt_tokens))
    return forward, max(forward, student.peak - gradients), teacher.peak


def _split_for(recipe: Recipe, model: PreTrainedModel) -> SplitModel:
    """Split the model, with the layouts that the run's attention and parallel mode support."""
    return replace(split_model(model, attention=recipe.model.attention), can_cache_prefix=recipe.parallel.mode != "fsdp")


def _head(recipe: Recipe, components: BuiltComponents, model: SplitModel, device: str) -> tuple[int, int]:
    """Return the bytes of the head while it computes the loss, and of the gradient of the hidden states, which remains."""
    weight = model.head.weight
    assert isinstance(weight, torch.Tensor)
    vocabulary, width = weight.shape
    tokens = min(recipe.batch.tokens, recipe.problems_per_step * recipe.group_size * recipe.sampling.max_new_tokens)
    models = 2 if any(term.objective.needs_teacher for term in components.objectives) else 1
    chunk = min(recipe.batch.chunk_mib << 20, tokens * models * vocabulary * weight.dtype.itemsize)
    tile = min(tile_bytes(device), tokens * vocabulary * 4)
    hidden = tokens * width * weight.dtype.itemsize
    gradient = hidden
    return chunk + _TILE_TENSORS * tile + gradient + 2 * hidden, gradient


def _sampling(
    recipe: Recipe, components: BuiltComponents, network: SplitModel, model: PreTrainedModel, device_bytes: int
) -> tuple[int, int]:
    """Return the bytes that SGLang takes, and those that sampling takes in the trainer's process."""
    options: Any = recipe.rollout.options  # the Config of the engine chosen, perhaps a plugin's
    if recipe.rollout.name == "sglang":
        if not getattr(options, "colocated", False):
            return 0, 0
        servers = 1 + options.launched_for_initial * components.samples_initial
        free = 1 - float(options.launch.args.get("mem_fraction_static", 0.85))  # of what is free when a server starts
        return int((1 - free**servers) * device_bytes), 0
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = torch.empty(0, dtype=getattr(torch, recipe.model.dtype)).itemsize
    per_layer = 2 * heads * width * size  # keys and values of one token
    rows = min(getattr(options, "max_batch", 1 << 30), recipe.problems_per_step * recipe.group_size)
    longest_response = max(recipe.sampling.max_new_tokens, recipe.evaluation.max_new_tokens or 0)
    length = recipe.sampling.max_prompt_tokens + longest_response
    length = min(length, getattr(config, "max_position_embeddings", length))
    cache = rows * length * per_layer * config.num_hidden_layers
    weight = network.head.weight
    assert isinstance(weight, torch.Tensor)
    copied_layers = 2 * rows * length * per_layer
    return 0, cache + copied_layers + rows * weight.shape[0] * (_SAMPLING_BYTES + size)


def format_bytes(size: int) -> str:
    """Return a size in GiB, or in MiB if it is below a quarter GiB."""
    return f"{size / 2**30:,.2f} GiB" if size >= 1 << 28 else f"{size / 2**20:,.1f} MiB"


def table_rows(estimate: MemoryEstimate) -> Sequence[tuple[str, str, str, str]]:
    """Return an estimate as text rows: what, while training, while sampling, note; the last row is the total."""
    rows = [(line.what, format_bytes(line.train), format_bytes(line.sample), line.note) for line in estimate.lines]
    note = "on each device" if estimate.ranks > 1 else ""
    return [*rows, ("total", format_bytes(estimate.train), format_bytes(estimate.sample), note)]
