"""Checks, once after loading, that a model can be trained in two parts: same log-probs as whole, on the layout of training.

Decides what follows from the measurements of `layout_check.py`: an error, or another layout with a sentence that says so.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from rosd_kit.errors import RunError
from rosd_kit.model.dropout import enter_training
from rosd_kit.model.layout_check import FORWARD_ERRORS, LayoutCheck, in_words
from rosd_kit.model.lora import unwrap_lora
from rosd_kit.model.packing import LayoutMode
from rosd_kit.model.split import SplitModel, mark_wrong_layouts, split_model

_REASONS: dict[LayoutMode, str] = {
    "packed": "are packed into one row ({}), so its layers look across the boundary between them, or carry a state over it",
    "shared": "share a prefix ({}), so its attention does not use transformers' attention interface",
}


@torch.no_grad()
def check_split(
    model: nn.Module, layout: Literal["auto", "padded", "packed", "shared"] = "auto", *, pad_id: int = 0
) -> str | None:
    """Check that backbone plus head reproduce the model's own log-probs, on the layout that training will use.

    Called once, after loading, on all ranks. Under `auto`, a layout that fails is excluded from use with this network, and the
    returned sentence says so. Takes no random numbers.

    Raises `RunError` when logits are post-processed in an unknown way, when a requested layout fails, and when even padding
    changes the log-probs.
    """
    parts = split_model(model)
    mode = parts.layout_mode(layout)
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        return _check_layouts(model, parts, layout, mode, pad_id)
    finally:
        for module in training:
            module.training = True


def _check_layouts(model: nn.Module, parts: SplitModel, requested: str, mode: LayoutMode, pad_id: int) -> str | None:
    inner = unwrap_lora(getattr(model, "module", model))
    name = type(inner).__name__
    if 0 < getattr(inner.config, "rescale_every", 0) < getattr(inner.config, "num_hidden_layers", 0):
        raise RunError(
            f"model.path: {name} rescales its own weights in place between training and sampling (rescale_every in "
            "config.json). Set rescale_every to 0 there, or use another architecture."
        )
    try:
        check = LayoutCheck.of(model, pad_id)
        gap = check.head_gap(parts)
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS as error:
        raise RunError(
            f"model.path: {name} cannot run on a short text: {in_words(error)}. Use a complete causal language "
            "model, or try another model.dtype and model.attention."
        ) from error
    if gap is not None:
        raise RunError(
            f"model.path: {name} post-processes its logits in a way that rosd-kit does not know ({gap}). Use an architecture "
            "whose logits are the head's output, scaled or soft-capped."
        )
    gap = check.layout_gap(parts, mode)
    if gap is None:
        return None
    note = None
    if mode != "padded":
        note = f"batch.layout: {name} gives different logits when sequences {_REASONS[mode].format(gap)}."
        if requested != "auto":
            raise RunError(f"{note} Use padded, or auto.")
        mark_wrong_layouts(model, [mode])
        gap = check.layout_gap(parts, "padded")
    if gap is not None:
        raise RunError(
            f"model.path: {name} gives different logits when other tokens or padding follow a sequence ({gap}), so it "
            "cannot be trained as a causal language model. Use another architecture, such as Qwen3 or Llama."
        )
    return f"{note} This run pads instead."


@torch.no_grad()
def check_training_mode(model: nn.Module) -> str | None:
    """Return a sentence if the model computes other log-probs in training mode than while sampling; None if it does not.

    For models from which `disable_dropout` has removed what it knows. The generators of random numbers are left as they were.
    """
    device = next(model.parameters()).device
    training = [module for module in model.modules() if module.training]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            check = LayoutCheck.of(model.eval(), pad_id=0)
            enter_training(model, dropout=False)
            gap = check.head_gap(split_model(model))
        except FORWARD_ERRORS:
            return None  # `check_split` names the error
        finally:
            model.eval()
            for module in training:
                module.training = True
    if gap is None:
        return None
    name = type(unwrap_lora(getattr(model, "module", model))).__name__
    return (
        f"model.dropout: {name} computes other log-probs in training mode than while sampling ({gap}), for a reason not known."
    )
