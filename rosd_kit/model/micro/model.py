"""The embedded base models: their folders, and their architectures with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.micro.tokenizer import MAX_TOKENS, build_tokenizer, vocabulary

#: Value of `model.path` for the architecture of `micro` with random weights.
BLANK = "micro-blank"

#: `model.path` of an embedded model -> the folder of its weights, which has the name of the recipe that trains it.
EMBEDDED = {"micro": "base", "micro-reasoning": "reasoning"}
#: `model.path` of an embedded architecture with random weights -> the model of this architecture.
BLANKS = {f"{name}-blank": name for name in EMBEDDED}


def base_path(name: str = "micro") -> Path:
    """Return the folder of an embedded model. Raises `RunError` if the package was installed without it."""
    folder = Path(__file__).parent / EMBEDDED[name]
    if not (folder / "model.safetensors").is_file():
        raise RunError(
            f"model.path: {name!r} needs the embedded model, which is not in this installation. Train it with "
            f"`rosd-kit run recipes/micro/{folder.name}.yaml`, or name another model."
        )
    return folder


def blank_model(seed: int, path: str = BLANK) -> Qwen3ForCausalLM:
    """Return a randomly initialised model of an embedded architecture: Qwen3, about 0.7 million parameters."""
    name = BLANKS[path]
    tokenizer = build_tokenizer(name)
    config = Qwen3Config(
        vocab_size=len(vocabulary(name)),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=256,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def blank_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of an embedded architecture with random weights."""
    return build_tokenizer(BLANKS[path])
