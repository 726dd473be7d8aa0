"""Runs prompts through a model and its own cache, padded on the left, each distinct prompt once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache as remember
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rosd_kit.decoding.rows import Ids

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache


class Prefill(NamedTuple):
    """Prompts that were run: `mask` `[prompts, length]` is 0 on padding, `logits` `[prompts, vocab]` are of the next tokens."""

    cache: DynamicCache
    mask: Tensor
    logits: Tensor


def prefill(model: nn.Module, prompts: Sequence[Ids], cache: DynamicCache, pad_id: int, device: torch.device) -> Prefill:
    """Run prompts and fill an empty cache with their keys and values."""
    longest = max(len(prompt) for prompt in prompts)
    padding = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[pad_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
    ids, mask = ids.to(device), mask.to(device)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
        **{cache_argument(model): cache},
    )
    return Prefill(cache, mask, out.logits[:, -1])


def distinct(prompts: Sequence[Ids]) -> tuple[list[Ids], list[int]]:
    """Return the distinct prompts in order, and for each prompt which of them it is."""
    index = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return list(index), [index[prompt] for prompt in prompts]


def cache_argument(model: nn.Module) -> str:
    """Return the name of the argument under which `forward` takes a key-value cache; looks through a peft wrapper.

    Newer versions of transformers renamed `past_key_values` to `cache`; other model code did not.
    """
    network: Any = model  # peft adds `get_base_model` to it
    if hasattr(network, "peft_config"):
        network = network.get_base_model()
    return _argument_of(type(network).forward)


@remember
def _argument_of(forward: Callable[..., object]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
