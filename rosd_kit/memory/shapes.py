"""Builds models without weights, on torch's `meta` device, where tensors have shapes but no memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import HFValidationError
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.activation_checkpointing import apply_checkpointing
from rosd_kit.model.dropout import disable_dropout
from rosd_kit.model.loading import find_model, local_folder
from rosd_kit.model.lora import add_lora, freeze
from rosd_kit.model.micro.model import BLANKS, blank_model
from rosd_kit.model.tensors import AutogradContext
from rosd_kit.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


_ATTENTION = "rosd_kit_shapes"
_QWEN3 = {"vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960}
#: Architectures of the models in the shipped profiles, from their config.json, so that an estimate need not fetch them.
KNOWN: dict[str, dict[str, int]] = {
    "Qwen/Qwen3-1.7B": {
        **_QWEN3, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-4B": {
        **_QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-8B": {
        **_QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "tie_word_embeddings": False,
    },
}  # fmt: skip


def model_on_meta(settings: ModelSettings) -> PreTrainedModel:
    """Return the model that the settings describe, on the `meta` device, with adapters and frozen weights as in a run.

    Its attention computes nothing; it saves for backward what fused kernels save. Raises `RunError` if the architecture is not
    known on this machine.
    """
    dtype = getattr(torch, settings.dtype)
    with torch.device("meta"), torch.random.fork_rng():
        if settings.path in BLANKS:
            config: PretrainedConfig = blank_model(0, settings.path).config
        else:
            config = _config(settings)
        AttentionInterface.register(_ATTENTION, _attention)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=_ATTENTION)
        if not settings.dropout:
            disable_dropout(model)
        apply_checkpointing(model, settings)
        if settings.lora is not None:
            model = add_lora(model, settings.lora, 0)
        else:
            freeze(model, settings.freeze)
    return model


def _config(settings: ModelSettings) -> PretrainedConfig:
    if settings.path in KNOWN:
        known: PretrainedConfig = AutoConfig.for_model("qwen3", **KNOWN[settings.path])
        return known
    folder = local_folder(settings)
    if folder is not None:
        folder = find_model(settings)
    options = {"gguf_file": settings.gguf} if settings.gguf else {}
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder or settings.path, revision=settings.revision, trust_remote_code=settings.trust_remote_code, **options
        )
        return config
    except (OSError, ValueError, HFValidationError) as error:
        raise RunError(
            f"model.path: the architecture of {settings.path!r} is not known on this machine, so its memory cannot be "
            f"estimated. Download the model first, or correct the path: {error}"
        ) from error


class _FusedAttention(torch.autograd.Function):
    """Saves for backward what fused attention kernels save: queries, keys, values and output, no matrix of scores."""

    @staticmethod
    def forward(ctx: AutogradContext, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, length = query.shape[:3]
        out = query.new_empty(rows, length, heads, value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(rows, heads, length, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: AutogradContext, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
    """Stand in for torch's fused attention kernels, which do not exist on `meta`."""
    out: Tensor = _FusedAttention.apply(query, key, value)
    return out.transpose(1, 2)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: object
) -> tuple[Tensor, None]:
    return _FusedAttention.apply(query, key, value), None
