"""The student's weights as another program wants them: whole, under transformers' own names, adapters merged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from rosd_kit.model.student import Student
from rosd_kit.parallel.fsdp import whole
from rosd_kit.types import PolicyWeights

NamedTensors = Iterator[tuple[str, Tensor]]


@torch.no_grad()
def full_weights(student: Student, which: PolicyWeights) -> NamedTensors:
    """Yield every weight, each once (tied ones share a name), one at a time so that no second model is held.

    Under LoRA `live` is the base weight plus the adapter's product, computed beside the weight, never in it: adding and
    subtracting in bfloat16 would slowly change the base. Sharded weights are gathered; all ranks must take part.
    """
    with student.initial() if which == "initial" else nullcontext(student.model) as model:
        adapted = which == "live" and student.settings.lora is not None
        yield from _merged(model, adapted=adapted) if student.settings.lora is not None else _plain(model)


def _plain(model: Any) -> NamedTensors:
    for name, weight in getattr(model, "module", model).named_parameters():
        yield name, whole(weight)


def _merged(model: Any, *, adapted: bool) -> NamedTensors:
    """Yield the weights of the model inside a LoRA model, with each adapter's product added if wanted."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = getattr(model, "module", model).get_base_model()
    layers: dict[str, Any] = {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, weight in base.named_parameters():
        owner, inside, leaf = name.partition(".base_layer.")
        if not inside:
            if not any(name.startswith(f"{layer}.") for layer in layers):
                yield name, whole(weight)
            continue
        merged = weight.detach()
        if adapted and leaf == "weight":
            for adapter in layers[owner].active_adapters:
                merged = merged + layers[owner].get_delta_weight(adapter)
        yield f"{owner}.{leaf}", whole(merged).to(weight.dtype)
