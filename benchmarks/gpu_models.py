"""Models for `gpu.py`: random weights of Qwen3's shapes with the laboratory's tokenizer, and how far log-probs are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

#: Sizes of Qwen3's models, and a toy of the same architecture.
SHAPES: dict[str, dict[str, int]] = {
    "toy": {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    },
    "0.6b": {
        "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    },
    "1.7b": {
        "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    },
}  # fmt: skip


def write_qwen3(shape: str, folder: Path, device: str) -> str:
    """Write a Qwen3 of this shape with random bfloat16 weights and the laboratory's tokenizer; return its path."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from rosd_kit.model.micro.tokenizer import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = Qwen3Config(
        **SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):  # random numbers for so many weights take minutes on a CPU
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(usual)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def layout_gap(model: Any, mode: Any) -> dict[str, float]:
    """Return how far a layout moves the log-probs of a few tokens from those of each sequence alone."""
    from rosd_kit.model.layout_check import LayoutCheck, _logprobs
    from rosd_kit.model.packing import build_layout
    from rosd_kit.model.split import split_model

    check = LayoutCheck.of(model.eval(), 0)
    logprobs = _logprobs(split_model(model), build_layout(check.sequences, pad_id=0, mode=mode))
    errors = (logprobs - check.expected).square().mean(-1).sqrt() / check.expected.std(-1)
    return {"relative_mean": float(errors.mean()), "relative_max": float(errors.max()), **_distance(logprobs, check.expected)}


def own_logprobs(student: Any) -> list[list[float]]:
    """Return the log-probs of the solutions of the laboratory's first problems, after their prompts."""
    from rosd_kit.components.tasks import Micro
    from rosd_kit.serving.logprob_check import trainer_logprobs

    problems = Micro().train_batch(step=0, count=8, seed=0)
    prompts = [student.prompt_ids(problem.messages) for problem in problems]
    answers = [student.tokenizer(problem.solution, add_special_tokens=False)["input_ids"] for problem in problems]
    return trainer_logprobs(student.model, prompts, answers, temperature=1.0)


def gap(expected: list[list[float]], values: list[list[float]]) -> dict[str, float]:
    """Return how far the log-probs of the same tokens are apart, in nats."""
    return _distance(*(torch.tensor([x for row in rows for x in row], dtype=torch.float64) for rows in (values, expected)))


def _distance(values: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    distance = (values - expected).abs().flatten()
    return {"mean": float(distance.mean()), "median": float(distance.median()), "max": float(distance.max())}
