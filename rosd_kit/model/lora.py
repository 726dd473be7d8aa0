"""Which weights of a model are trained: adapters beside them, or all but those that are frozen by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.settings import LoraSettings


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Leave the weights of these names out of training. Raises `RunError` for a pattern that no name matches."""
    named = list(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        chosen = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not chosen:
            raise RunError(
                f"model.freeze: no weight is called {pattern!r}.{did_you_mean(pattern, (name for name, _ in named))} They are "
                f"called as in {named[0][0]!r}; `*` stands for anything."
            )
        for parameter in chosen:
            parameter.requires_grad_(False)


def with_lora(model: Any, lora: LoraSettings, seed: int) -> Any:
    """Return the model with adapters, whose start `seed` decides. Raises `RunError` where peft or the modules are missing."""
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
