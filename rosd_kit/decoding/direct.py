"""Runs one token per row through the layers of a Llama-like model directly: fewer, larger operations than its modules' own.

    x += o_proj(attend(rotate(norm(q_proj(norm(x)))), ...));  x += mlp(norm(x))

For small models a step's time goes to Python and to small operations, and transformers' layers have many of both. Weights stay
where they are; projections run as modules, so adapters work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rosd_kit.decoding.attention import Step, attend
from rosd_kit.model.split import SplitModel
from rosd_kit.parallel.fsdp import is_sharded

#: A backbone of transformers, or a part of one: several classes with the same attributes, and torch types none of these.
BackbonePart = Any
#: Backbones of transformers whose layers are as described above, each with the window of one of its attention modules.
_WINDOWS: dict[str, Callable[[BackbonePart], int | None]] = {
    "LlamaModel": lambda attention: None,
    "MistralModel": lambda attention: attention.config.sliding_window,
    "Qwen2Model": lambda attention: attention.sliding_window,
    "Qwen3Model": lambda attention: attention.sliding_window,
}


def runs_directly(model: nn.Module, parts: SplitModel) -> bool:
    """Return whether `DirectLayers` can stand for the model: a known class, not sharded, and no hook on any module."""
    kind = type(parts.backbone)
    return (
        kind.__name__ in _WINDOWS
        and kind.__module__.startswith("transformers.models.")
        and not is_sharded(model)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    )


class DirectLayers:
    """The layers, norms and rotary embedding of a model, called one by one."""

    def __init__(self, parts: SplitModel) -> None:
        self._parts = parts
        self._backbone: BackbonePart = parts.backbone
        self._windows = _windows(self._backbone)

    def logits(self, step: Step, tokens: Tensor, positions: Tensor) -> Float[Tensor, "rows vocab"]:
        """Return the logits of the tokens after `tokens`; both arguments are `[rows]`."""
        backbone = self._backbone
        x = backbone.embed_tokens(tokens)
        cos, sin = backbone.rotary_emb(x[:, None], positions[:, None])
        half = sin.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        for index, layer in enumerate(backbone.layers):
            x = x + self._attention(step, index, layer.self_attn, _norm(layer.input_layernorm, x), cos, signed)
            x = x + layer.mlp(_norm(layer.post_attention_layernorm, x))
        return self._parts.logits(_norm(backbone.norm, x))

    def _attention(
        self, step: Step, index: int, layer: BackbonePart, x: Float[Tensor, "rows hidden"], cos: Tensor, signed: Tensor
    ) -> Float[Tensor, "rows hidden"]:
        heads = (len(x), -1, layer.head_dim)
        query, key, value = (project(x).view(heads) for project in (layer.q_proj, layer.k_proj, layer.v_proj))
        if hasattr(layer, "q_norm"):
            query, key = _norm(layer.q_norm, query), _norm(layer.k_norm, key)
        query, key = _rotated(query, cos * layer.scaling, signed * layer.scaling), _rotated(key, cos, signed)
        groups = key.shape[1]
        queries = query.view(len(x), groups, -1, layer.head_dim)
        output: Tensor = layer.o_proj(attend(step, index, queries, key, value, window=self._windows[index]).view(len(x), -1))
        return output


def _windows(backbone: BackbonePart) -> list[int | None]:
    window_of = _WINDOWS[type(backbone).__name__]
    return [window_of(layer.self_attn) for layer in backbone.layers]


def _norm(module: BackbonePart, x: Tensor) -> Tensor:
    """Normalise by the root mean square; in one operation in float32, where no rounding in between can differ."""
    normalised: Tensor = (
        functional.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon) if x.dtype == torch.float32 else module(x)
    )
    return normalised


def _rotated(
    x: Float[Tensor, "rows heads size"], cos: Float[Tensor, "rows 1 size"], signed: Float[Tensor, "rows 1 size"]
) -> Float[Tensor, "rows heads size"]:
    """Turn pairs of dimensions, `size / 2` apart; the first half of the sines is negated."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed)
