"""Compares ways to recompute activations: seconds of a forward and backward pass, what it keeps between them, and its peak.

    python benchmarks/recomputation.py        # prints a table; half a minute

Four layers of SmolLM2-135M's shape run 340 tokens along a prefix tree: a prompt of 100 tokens and six responses of 40. `torch`
is torch's own selective checkpointing, which the kit uses with fused kernels. Times are the processor's, in turns, on one
thread; memory is counted tensor by tensor, gradients included. Fails if a gradient differs from plain autograd's in any bit.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from harness import Times, machine, table, take_turns
from transformers import LlamaConfig, LlamaForCausalLM

from rosd_kit.memory.live import LiveMemory
from rosd_kit.model.activation_checkpointing import enable_checkpointing
from rosd_kit.model.split import split_model
from rosd_kit.model.tree_attention import AttentionTree, attend_along
from rosd_kit.training.grad_accumulation import accumulate_in_place

LAYERS, PROMPT, RESPONSE, BRANCHES = 4, 100, 40, 6
MODES: dict[str, dict[str, bool] | None] = {
    "plain": None,
    "selective": {"selective": True},
    "torch": {"selective": True, "fused": True},
    "whole layers": {"selective": False},
}


def network(mode: str) -> Any:
    """Return the model with random weights, the same for every mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=576, intermediate_size=1536, num_hidden_layers=LAYERS, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    options = MODES[mode]
    if options is not None:
        enable_checkpointing(model, **options)
    return model


def step(model: Any, memory: LiveMemory | None = None) -> int:
    """Run forward and backward; return the bytes in use between them, if `memory` counts."""
    backbone = split_model(model).backbone
    tree = AttentionTree([PROMPT] + [RESPONSE] * BRANCHES, [(), *[(0,)] * BRANCHES])
    responses = [torch.arange(PROMPT, PROMPT + RESPONSE)] * BRANCHES
    positions = torch.cat([torch.arange(PROMPT), *responses])[None]
    ids = torch.arange(positions.shape[1])[None] % 997 + 3
    model.zero_grad()
    with accumulate_in_place(backbone):
        with attend_along(backbone.config, tree):
            hidden = backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        kept = memory.now if memory else 0
        hidden.square().sum().backward()
    return kept


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    models = {mode: network(mode) for mode in MODES}
    times: dict[str, Times] = take_turns({mode: partial(step, model) for mode, model in models.items()}, repeats=10)
    rows = []
    for mode, model in models.items():
        with LiveMemory() as memory:
            kept = step(model, memory)
        for name, parameter in model.named_parameters():
            if not torch.equal(parameter.grad, models["plain"].get_parameter(name).grad):
                raise SystemExit(f"{mode}: the gradient of {name} differs from plain autograd's")
        floats = kept / 4 / LAYERS / (PROMPT + RESPONSE * BRANCHES)
        seconds = f"{times[mode].median:.3f} ({times[mode].least:.3f} to {times[mode].greatest:.3f})"
        rows.append([mode, seconds, f"{floats:,.0f}", f"{memory.peak / 2**20:.1f}"])
    print(f"On {machine()}.\n")
    print(table(["recomputes", "seconds", "floats kept per token and layer", "peak, MiB"], rows))


if __name__ == "__main__":
    main()
