"""Tiny random models of many architectures with a real byte-pair tokenizer, saved like published models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<s>", "<|im_end|>", "<|im_start|>", "<think>", "</think>"]
TEXTS = [
    "Start at 26 . Add 5 . Subtract 7 . What is the result ? Step 1 : 26 + 5 = 31 . Answer : 31 .",
    "Gold answer : 25 . Correct solution : Wrong solution : Find first error . Key idea : Solve it correctly .",
    "system user assistant You are a helpful assistant .",
]

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {"head_dim": 8}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {**HEADS, "tie_word_embeddings": True},
    "qwen2": {},
    "llama": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 16},
    "gemma2": {**HEADS, "sliding_window": 16, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "gemma3_text": {**HEADS, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 2.0},
    "phi3": {"partial_rotary_factor": 0.5},
    "gpt_neox": {},
    "olmo2": {},
    "smollm3": {"no_rope_layer_interval": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 8, "time_step_rank": 4},
    "qwen3_5_text": {
        **HEADS,
        **{"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
        "layer_types": ["linear_attention", "full_attention"],
    },
}
#: Architectures for which transformers has no sdpa attention.
EAGER = {"gemma2", "mamba"}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of 400 entries with ChatML's template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    return fast


def make_model(kind: str, **changes: Any) -> Any:
    """Return a random model of an architecture."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, **KINDS[kind], "vocab_size": len(tokenizer()), **changes})
    return AutoModelForCausalLM.from_config(config)


def save(folder: Path, kind: str = "qwen3", *, template: str | None = None, **changes: Any) -> Path:
    """Save a random model with its tokenizer and return the folder."""
    make_model(kind, **changes).save_pretrained(folder)
    chosen = tokenizer()
    chosen.save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder
