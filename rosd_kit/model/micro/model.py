"""The embedded base model: its folder, and its architecture with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.micro.tokenizer import build_tokenizer, vocabulary

#: Value of `model.path` for the embedded architecture with random weights.
BLANK = "micro-blank"


def base_path() -> Path:
    """Return the folder of the embedded model. Raises `RunError` if the package was installed without it."""
    folder = Path(__file__).parent / "base"
    if not (folder / "model.safetensors").is_file():
        raise RunError(
            "model.path: 'micro' needs the embedded model, which is not in this installation. Train it with "
            "`rosd-kit run recipes/micro/base.yaml`, or name another model."
        )
    return folder


def blank_model(seed: int) -> Qwen3ForCausalLM:
    """Return a randomly initialised model of the embedded architecture: Qwen3, about 0.7 million parameters."""
    tokenizer = build_tokenizer()
    config = Qwen3Config(
        vocab_size=len(vocabulary()),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=256,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
