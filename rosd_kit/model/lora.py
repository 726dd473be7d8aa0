"""Selects the trainable weights: LoRA adapters, or all weights except those frozen by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.settings import LoraSettings


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude the weights whose names match a pattern from training. Raises `RunError` for a pattern without a match."""
    named = list(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        matches = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not matches:
            raise RunError(
                f"model.freeze: no weight is called {pattern!r}.{did_you_mean(pattern, (name for name, _ in named))} "
                f"Names look like {named[0][0]!r}; `*` matches anything."
            )
        for parameter in matches:
            parameter.requires_grad_(False)


def add_lora(model: Any, lora: LoraSettings, seed: int) -> Any:
    """Return the model wrapped with LoRA adapters, initialised from `seed`.

    Raises `RunError` when peft is not installed or no module matches `target_modules`.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise RunError('model.lora needs peft, which is not installed. Run: pip install "rosd-kit[lora]"') from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise RunError(f"model.lora: {error}. Check model.lora.target_modules.") from error


def unwrap_lora(model: Any) -> Any:
    """Return the transformers model inside a LoRA model; return any other model unchanged."""
    return model.get_base_model() if hasattr(model, "peft_config") else model
