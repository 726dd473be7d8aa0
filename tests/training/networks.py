"""Tiny networks in float64, one for each way in which architectures differ around the head."""

from __future__ import annotations

import peft
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 61
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def qwen(seed: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(seed)
    options = {**SHAPE, "head_dim": 8, "tie_word_embeddings": True, **changes}
    return Qwen3ForCausalLM(Qwen3Config(**options)).double()


def frozen_head(seed: int = 0) -> nn.Module:
    model = qwen(seed, tie_word_embeddings=False)
    model.lm_head.requires_grad_(False)
    return model


def phi(seed: int = 0) -> nn.Module:
    """Its head has a bias."""
    torch.manual_seed(seed)
    config = PhiConfig(**{**SHAPE, "num_key_value_heads": 4}, tie_word_embeddings=False)
    model = PhiForCausalLM(config).double()
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def gemma(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = Gemma2Config(
        **SHAPE, head_dim=8, tie_word_embeddings=False, final_logit_softcapping=3.0, sliding_window=6,
        query_pre_attn_scalar=8,
    )  # fmt: skip
    return Gemma2ForCausalLM(config).double()


def lora(seed: int = 0) -> nn.Module:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return peft.get_peft_model(qwen(seed), config).double()


def lora_on_the_head(seed: int = 0) -> nn.Module:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "lm_head"], init_lora_weights=False)
    return peft.get_peft_model(qwen(seed, tie_word_embeddings=False), config).double()


def granite(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0, tie_word_embeddings=False)).double()


def cohere(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25)).double()
