"""Activation checkpointing: what each layer keeps for the backward pass and what it computes again.

    all        Keep only the layer's input; run the whole forward pass twice.
    selective  Keep what is expensive to compute, and compute the outputs of norms and activations again
               (`activation_replay.py`). With fused kernels, whose operations autograd does not see, use torch's own
               selective checkpointing, which costs more time in the interpreter.

It applies to the layers that transformers itself can checkpoint, and works under tree attention (`tree_attention.py`).
Does not know losses or layouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from rosd_kit.model.activation_replay import replay_activations
from rosd_kit.model.tree_attention import capture_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rosd_kit.settings import ModelSettings


#: Expensive operators by name, including every kernel that scaled dot-product attention may choose.
_EXPENSIVE = ("mm", "addmm", "bmm", "baddbmm", "_grouped_mm", "_flash_attn_forward", "_flash_attn_varlen_forward")
_ATTENTION_PREFIX = "_scaled_dot_product_"


def enable_checkpointing(model: PreTrainedModel, *, selective: bool, fused: bool = False) -> None:
    """Turn on activation checkpointing for a transformers model. `fused`: its norms or activations are fused kernels.

    Raises `ValueError` if the architecture has no support.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if selective and not fused and layers:
        for layer in layers:
            replay_activations(layer)
        return
    # transformers 5.2x renames the method
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, "context_fn": partial(_contexts, selective)})


def apply_checkpointing(model: PreTrainedModel, settings: ModelSettings) -> None:
    """Turn on what `model.gradient_checkpointing` says. `auto` is nothing here: a run that trains has chosen before."""
    if settings.gradient_checkpointing in (True, "selective"):
        selective = settings.gradient_checkpointing == "selective"
        enable_checkpointing(model, selective=selective, fused=settings.kernels != "plain")


def _contexts(selective: bool) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Return the contexts of a layer's forward pass and of its recomputation, which attends along the same tree."""
    forward: AbstractContextManager[object] = nullcontext()
    recomputation: AbstractContextManager[object] = nullcontext()
    if selective:
        forward, recomputation = create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]
    return forward, _nested(capture_tree(), recomputation)


@contextmanager
def _nested(outer: AbstractContextManager[object], inner: AbstractContextManager[object]) -> Iterator[None]:
    with outer, inner:
        yield


def _policy(_: object, operator: object, *args: object, **kwargs: object) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if _is_expensive(operator) else CheckpointPolicy.PREFER_RECOMPUTE


@cache
def _is_expensive(operator: object) -> bool:
    name = str(getattr(operator, "_opname", "") or operator).rpartition("::")[2]
    return name in _EXPENSIVE or name.startswith(_ATTENTION_PREFIX)
