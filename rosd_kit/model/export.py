"""Weights for other programs: whole tensors under transformers' own names, adapters merged, shards gathered.

Does not know training, or where the weights are sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rosd_kit.model.loading import no_progress_bars
from rosd_kit.model.lora import unwrap_lora
from rosd_kit.parallel.fsdp import full_tensor, is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


NamedTensors = Iterator[tuple[str, Tensor]]


@torch.no_grad()
def full_weights(model: nn.Module, *, merge_adapters: bool) -> NamedTensors:
    """Yield every weight once (tied weights share a name), one at a time, so that no second model is held in memory.

    Adapters are merged into the yielded weights or, without `merge_adapters`, left out. The sum is computed beside the weight,
    never inside it: adding and subtracting in bfloat16 would slowly change the base weight. All ranks must iterate together.
    """
    model = getattr(model, "module", model)
    if hasattr(model, "peft_config"):
        yield from _base_weights(unwrap_lora(model), merge_adapters=merge_adapters)
    else:
        for name, weight in model.named_parameters():
            yield name, full_tensor(weight)


def _base_weights(base: PreTrainedModel, *, merge_adapters: bool) -> NamedTensors:
    """Yield the weights of a base model with adapters inside, under the names they have without adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    # Any: the base class does not declare get_delta_weight.
    layers: dict[str, Any] = {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, weight in base.named_parameters():
        owner, inside, leaf = name.partition(".base_layer.")
        if not inside:
            if not any(name.startswith(f"{layer}.") for layer in layers):
                yield name, full_tensor(weight)
            continue
        merged = weight.detach()
        if merge_adapters and leaf == "weight":
            for adapter in layers[owner].active_adapters:
                merged = merged + layers[owner].get_delta_weight(adapter)
        yield f"{owner}.{leaf}", full_tensor(merged).to(weight.dtype)


def exporter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, writes: bool, adapter_only: bool = False
) -> Callable[[Path], None]:
    """Return a function that writes weights and tokenizer to a folder, for plain transformers to load.

    All ranks call this together, because shards are gathered here. Ranks with `writes=False` keep nothing in memory and must
    not call the function. Call it before the next update: a model that is neither sharded nor adapted is not copied.
    `adapter_only` writes the adapters as peft does, for `PeftModel.from_pretrained`.
    """
    if adapter_only:
        return _adapter_exporter(model, tokenizer, writes=writes)
    state: dict[str, Tensor] | None = None
    if is_sharded(model):
        state = {}
        for name, weight in full_weights(model, merge_adapters=True):
            if writes:
                state[name] = weight.cpu()
        model = unwrap_lora(model)
    elif hasattr(model, "peft_config"):
        adapted: Any = copy.deepcopy(model)  # no type has the method: peft takes it from the tuner inside
        model = adapted.merge_and_unload()

    def write(folder: Path) -> None:
        with no_progress_bars():
            model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)

    return write


def _adapter_exporter(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, writes: bool) -> Callable[[Path], None]:
    state: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            full = full_tensor(weight)  # all ranks
            if writes:
                state[name] = full.cpu()

    def write(folder: Path) -> None:
        # peft would add adapted embeddings whole; the base model has them.
        model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        tokenizer.save_pretrained(folder)

    return write
