"""What a device holds while a run trains and while it samples, line by line, from the recipe alone.

    weights      what the model has, once
    copies       initial weights (without LoRA: all that is trained), a moving average
    optimizer    float32 copies of narrow weights, AdamW's two averages
    gradients    of what is trained, in the type of the weights
    activations  the step's longest micro-batch, counted through the very layout and model of the run (`live.py`)
    logits       the head's chunk and tiles
    cache        keys and values of a batch of rollouts; SGLang's share of the device

Texts are taken at their longest, so that a run which fits on paper fits when its responses grow. Knows no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rosd_kit.memory.live import LiveMemory
from rosd_kit.memory.shapes import fused, sizes_only
from rosd_kit.model.packing import Layout, TokenSequence, build_layout, plan_micro_batches
from rosd_kit.model.split import SplitModel, split_model
from rosd_kit.model.tree_attention import use_kernel
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.settings import OptimizerSettings
from rosd_kit.training.chunked_loss import tile_bytes

#: Tensors over the vocabulary, in float32, that a tile of the loss makes on the way: log-probs, their gradient, top-k sorts.
_TILE_TENSORS = 8
#: Bytes a logit while a token is drawn: the model's own, float32 logits, log-probs and probabilities, float64 cumulative ones.
_DRAWING = 4 + 4 + 4 + 8


@dataclass(frozen=True, kw_only=True)
class Line:
    """Bytes of one kind on one device, while training and while sampling; `note` says what they are made of."""

    what: str
    train: int
    sample: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """All lines of one device."""

    lines: tuple[Line, ...]
    processes: int

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
        """Bytes of the larger of the two."""
        return max(self.train, self.sample)


def estimate_memory(
    recipe: Recipe, components: BuiltComponents, *, device: str = "cpu", processes: int = 1, device_bytes: int = 0
) -> MemoryEstimate:
    """Return what each device of a run will hold at most.

    `processes` counts in under `parallel.mode: fsdp`, which cuts the layers up among them. `device_bytes` is the size of the
    device, of which a colocated SGLang takes its share. Raises `RunError` when the model's shape is not known on this machine.
    """
    model = sizes_only(recipe.model)
    pieces = processes if recipe.parallel.mode == "fsdp" else 1
    held = _Held.of(model, pieces)
    copies, copied = _copies(components, held, lora=recipe.model.lora is not None)
    forward, backward, teacher = _activations(recipe, components, model)
    head, gradient = _head(recipe, components, split_model(model), device)
    working = max(forward + head, backward + gradient, teacher, _update(recipe.optimizer, held, device))
    server, cache = _sampling(recipe, split_model(model), model, device_bytes)
    lines = [
        Line(
            what="weights", train=held.all, sample=held.all, note=f"{held.numbers / 1e6:,.1f}M numbers in {recipe.model.dtype}"
        ),
        Line(what="copies of weights", train=copies, sample=copies, note=copied),
        Line(
            what="optimizer",
            train=_moments(recipe.optimizer, held),
            sample=_moments(recipe.optimizer, held),
            note=recipe.optimizer.name + (", float32 copies" if recipe.optimizer.master_weights and held.narrow else ""),
        ),
        Line(what="gradients", train=held.trained, sample=0, note=f"{held.trained_numbers / 1e6:,.1f}M numbers"),
        Line(what="activations", train=max(0, working - head), sample=0, note=f"batch.tokens={recipe.batch.tokens}"),
        Line(what="logits", train=min(head, working), sample=0, note=f"batch.chunk_mib={recipe.batch.chunk_mib}"),
        Line(what="rollouts", train=0, sample=cache, note="keys and values, and the logits that tokens are drawn from"),
    ]
    if recipe.rollout.name == "sglang":
        lines.append(Line(what="SGLang", train=0, sample=server, note="its share of what is free when it starts"))
    return MemoryEstimate(lines=tuple(lines), processes=processes)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Bytes of weights on one device, of those that are trained, and how many numbers these are."""

    all: int
    trained: int
    numbers: int
    trained_numbers: int
    narrow: int
    largest: int

    @classmethod
    def of(cls, model: nn.Module, pieces: int) -> _Held:
        """Add a model's weights up; its layers are cut into pieces, everything else is whole in each process."""
        names = set(getattr(model, "_no_split_modules", None) or ())
        layers = [module for module in model.modules() if type(module).__name__ in names]
        cut = {id(p) for layer in layers for p in layer.parameters()}
        share = [(p, 1 / pieces if id(p) in cut else 1.0) for p in model.parameters()]
        trained = [(p, part) for p, part in share if p.requires_grad]
        return cls(
            all=int(sum(p.nbytes * part for p, part in share)) + sum(b.nbytes for b in model.buffers()),
            trained=int(sum(p.nbytes * part for p, part in trained)),
            numbers=sum(p.numel() for p in model.parameters()),
            trained_numbers=int(sum(p.numel() * part for p, part in trained)),
            narrow=int(sum(p.numel() * part for p, part in trained if p.dtype.itemsize < 4)),
            largest=max((p.numel() for p, _ in trained), default=0),
        )


def _copies(components: BuiltComponents, held: _Held, *, lora: bool) -> tuple[int, str]:
    wanted = any(component.wants_initial() for component in components)
    initial = held.trained if wanted and not lora else 0
    average = components.teacher.extra_bytes(held.trained_numbers, held.narrow)
    named = [name for name, size in (("initial weights", initial), ("the teacher's own", average)) if size]
    return initial + average, ", ".join(named) or ("none: the adapter is switched off" if wanted else "none")


def _moments(settings: OptimizerSettings, held: _Held) -> int:
    masters = 4 * held.narrow if settings.master_weights else 0
    each = {"adamw": 8.0, "adamw8bit": 2.0 + 2 * 4 / 256, "muon": 4.0}[settings.name]
    narrow = held.narrow if not settings.master_weights and settings.name != "adamw8bit" else 0
    return masters + int(each * held.trained_numbers) - int(each / 2 * narrow)


def _update(settings: OptimizerSettings, held: _Held, device: str) -> int:
    """Return what an update makes for its own time: float32 gradients of a group, and what is not fused with the rest."""
    group = min(4 * held.trained_numbers, (1 << 30) + 4 * held.largest)
    widened = group if held.narrow and settings.master_weights else 0
    if settings.name == "adamw":
        return widened
    return widened + (2 * group if device == "cuda" else 2 * 4 * held.largest)


def _texts(recipe: Recipe, prompt: int) -> list[TokenSequence]:
    """Return a step's texts at their longest; those of a problem have its prompt in common and nothing else."""
    return [
        TokenSequence((-1 - problem,) * prompt, (member,) * recipe.sampling.max_new_tokens, problem)
        for problem in range(recipe.problems_per_step)
        for member in range(recipe.group_size)
    ]


def _longest(recipe: Recipe, model: SplitModel, prompt: int) -> Layout:
    mode = model.layout_mode(recipe.batch.layout)
    texts = _texts(recipe, prompt)
    groups = plan_micro_batches(texts, budget=recipe.batch.tokens, mode=mode, can_cache_prefix=model.can_cache_prefix)
    largest = max(groups, key=lambda group: sum(len(texts[i].ids) for i in group.indices))
    return build_layout([texts[i] for i in largest.indices], pad_id=0, mode=mode, prefix=largest.prefix)


def _activations(recipe: Recipe, components: BuiltComponents, model: Any) -> tuple[int, int, int]:
    """Return what a student's pass leaves for the way back, the peak of that, and the peak of a teacher's pass.

    The gradients of weights are not among it.
    """
    network = _split_as_in_a_run(model, recipe)
    live = LiveMemory()
    model.train()
    with live, use_kernel(fused):
        hidden = network.hidden(_longest(recipe, network, recipe.sampling.max_prompt_tokens))
        forward = live.now
        torch.autograd.backward(hidden, torch.empty_like(hidden))
        del hidden
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    for parameter in model.parameters():
        parameter.grad = None
    taught = LiveMemory()
    if any(term.objective.needs_teacher for term in components.objectives):
        with torch.no_grad(), taught, use_kernel(fused):
            network.hidden(_longest(recipe, network, recipe.sampling.max_teacher_prompt_tokens))
    return forward, max(forward, live.peak - gradients), taught.peak


def _split_as_in_a_run(model: Any, recipe: Recipe) -> SplitModel:
    """Split a model of sizes only, with the layouts that the run's own attention and parallel mode allow."""
    return replace(split_model(model, attention=recipe.model.attention), can_cache_prefix=recipe.parallel.mode != "fsdp")


def _head(recipe: Recipe, components: BuiltComponents, model: SplitModel, device: str) -> tuple[int, int]:
    """Return the logits of a chunk with what is made of them, and what of it is left for the way back.

    That is the gradient of the hidden states.
    """
    weight: Any = model.head.weight
    vocabulary, width = weight.shape
    tokens = min(recipe.batch.tokens, recipe.problems_per_step * recipe.group_size * recipe.sampling.max_new_tokens)
    each = vocabulary * weight.dtype.itemsize * (2 if any(t.objective.needs_teacher for t in components.objectives) else 1)
    chunk = min(recipe.batch.chunk_mib << 20, tokens * each)
    tile = min(tile_bytes(device), tokens * vocabulary * 4)
    gradient = tokens * width * weight.dtype.itemsize
    return chunk + _TILE_TENSORS * tile + gradient + 2 * tokens * width * weight.dtype.itemsize, gradient


def _sampling(recipe: Recipe, model: SplitModel, whole: Any, device_bytes: int) -> tuple[int, int]:
    """Return SGLang's share, and what sampling takes in the trainer's own process."""
    options: Any = recipe.rollout.options
    if recipe.rollout.name == "sglang":
        share = float(options.launch.args.get("mem_fraction_static", 0.85)) if getattr(options, "colocated", False) else 0.0
        return int(share * device_bytes), 0
    config = whole.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = torch.empty(0, dtype=getattr(torch, recipe.model.dtype)).itemsize
    layer = 2 * heads * width * size
    rows = min(getattr(options, "max_batch", 1 << 30), recipe.problems_per_step * recipe.group_size)
    length = recipe.sampling.max_prompt_tokens + recipe.sampling.max_new_tokens
    length = min(length, getattr(config, "max_position_embeddings", length))
    cache = rows * length * layer * config.num_hidden_layers
    weight: Any = model.head.weight
    vocabulary = weight.shape[0]
    return 0, cache + 2 * rows * length * layer + rows * vocabulary * (_DRAWING + size)


def shown(size: int) -> str:
    """Return bytes as a person reads them."""
    return f"{size / 2**30:,.2f} GiB" if size >= 1 << 28 else f"{size / 2**20:,.1f} MiB"


def table(found: MemoryEstimate) -> Sequence[tuple[str, str, str, str]]:
    """Return an estimate's lines as text: what, while training, while sampling, what it is made of."""
    rows = [(line.what, shown(line.train), shown(line.sample), line.note) for line in found.lines]
    each = "on each device" if found.processes > 1 else ""
    return [*rows, ("total", shown(found.train), shown(found.sample), each)]
