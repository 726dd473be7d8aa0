"""Activation checkpointing changes no gradient, and recomputes and keeps what its mode says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rosd_kit.memory.live import LiveMemory
from rosd_kit.model.activation_checkpointing import enable_checkpointing
from rosd_kit.model.split import split_model
from rosd_kit.model.tree_attention import AttentionTree, attend_along
from rosd_kit.training.grad_accumulation import accumulate_in_place
from tests.training.networks import lora, qwen

IDS, POSITIONS = torch.tensor([[5, 6, 7, 8, 6, 9]]), torch.tensor([[2, 3, 4, 5, 4, 5]])


class Calls(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[str(function).split(".")[1]] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def along_tree(backbone: Any, past: dict[int, tuple[Tensor, Tensor]]) -> Iterator[None]:
    with attend_along(backbone.config, AttentionTree([2, 2, 2], [(), (0,), (0,)], past=past)):
        yield


def gradients(model: Any, past: dict[int, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return the gradients of two passes along a tree; backward runs outside it, with the usual attention."""
    backbone = split_model(model).backbone
    model.zero_grad()
    for tensor in (each for pair in past.values() for each in pair):
        tensor.grad = None
    for _ in range(2):
        with along_tree(backbone, past):
            hidden = backbone(input_ids=IDS, position_ids=POSITIONS, use_cache=False).last_hidden_state
        hidden.pow(3).sum().backward()
    named = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    of_past = {f"past {layer}.{i}": pair[i].grad for layer, pair in past.items() for i in range(2)}
    return named | {name: tensor for name, tensor in of_past.items() if tensor is not None}


@pytest.mark.parametrize("selective", [None, False, True])
@pytest.mark.parametrize("make", [qwen, lora])
def test_gradients_along_a_tree_equal_those_of_plain_autograd(make: Any, selective: bool | None) -> None:
    """With gradients accumulated in place, activations recomputed, and keys and values of a cached prefix."""
    model = make().train()
    backbone = split_model(model).backbone
    past = {
        layer: (torch.randn(1, 2, 2, 8).double().requires_grad_(), torch.randn(1, 2, 2, 8).double().requires_grad_())
        for layer in range(len(backbone.layers))
    }
    expected = gradients(model, past)
    assert len([name for name in expected if name.startswith("past")]) == 2 * len(backbone.layers)
    assert all(gradient.any() for gradient in expected.values())
    if selective is not None:
        enable_checkpointing(model.get_base_model() if make is lora else model, selective=selective)
    with accumulate_in_place(backbone):
        computed = gradients(model, past)
    assert computed.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(computed[name], gradient)


def test_selective_recomputes_no_matrix_product_and_no_attention_and_keeps_less() -> None:
    repeated, kept = {}, {}
    for mode in ("none", "selective", "all"):
        model = qwen().train()
        backbone = split_model(model).backbone
        if mode != "none":
            enable_checkpointing(model, selective=mode == "selective")
        with LiveMemory() as live:
            with along_tree(backbone, {}):
                hidden = backbone(input_ids=IDS, position_ids=POSITIONS, use_cache=False).last_hidden_state
            kept[mode] = live.now
        with Calls() as calls:
            hidden.sum().backward()
        attention = sum(n for name, n in calls.count.items() if name.startswith("_scaled_dot") and "backward" not in name)
        repeated[mode] = calls.count["mm"] + calls.count["bmm"], attention, calls.count["silu"]
    layers = len(backbone.layers)
    assert repeated["selective"] == (*repeated["none"][:2], layers)
    assert repeated["none"][1:] == (0, 0)
    assert repeated["all"][0] > repeated["none"][0] + 5 * layers and repeated["all"][2] == layers
    assert kept["all"] < 0.5 * kept["selective"] < 0.4 * kept["none"]
