"""What layers compute again in the backward pass changes no gradient, and costs what it is meant to cost."""

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
from rosd_kit.model.activation_checkpointing import recompute
from rosd_kit.model.split import split
from rosd_kit.model.tree_attention import Branches, branching
from rosd_kit.training.grad_accumulation import in_place
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
def along_branches(backbone: Any, past: dict[int, tuple[Tensor, Tensor]]) -> Iterator[None]:
    with branching(backbone.config, Branches([2, 2, 2], [(), (0,), (0,)], past=past)):
        yield


def gradients(model: Any, past: dict[int, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return those of two passes along a tree; in the backward pass attention is the usual one again."""
    backbone = split(model).backbone
    model.zero_grad()
    for tensor in (one for pair in past.values() for one in pair):
        tensor.grad = None
    for _ in range(2):
        with along_branches(backbone, past):
            hidden = backbone(input_ids=IDS, position_ids=POSITIONS, use_cache=False).last_hidden_state
        hidden.pow(3).sum().backward()
    named = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    behind = {f"past {layer}.{i}": pair[i].grad for layer, pair in past.items() for i in range(2)}
    return named | {name: tensor for name, tensor in behind.items() if tensor is not None}


@pytest.mark.parametrize("selective", [None, False, True])
@pytest.mark.parametrize("make", [qwen, lora])
def test_gradients_along_branches_are_those_of_autograd_alone(make: Any, selective: bool | None) -> None:
    """Added in place and recomputed, behind keys and values of a beginning."""
    model = make().train()
    backbone = split(model).backbone
    past = {
        layer: (torch.randn(1, 2, 2, 8).double().requires_grad_(), torch.randn(1, 2, 2, 8).double().requires_grad_())
        for layer in range(len(backbone.layers))
    }
    expected = gradients(model, past)
    assert len([name for name in expected if name.startswith("past")]) == 2 * len(backbone.layers)
    assert all(gradient.any() for gradient in expected.values())
    if selective is not None:
        recompute(model.get_base_model() if make is lora else model, selective=selective)
    with in_place(backbone):
        found = gradients(model, past)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_selective_repeats_no_product_and_no_attention_and_keeps_less() -> None:
    repeated, kept = {}, {}
    for way in ("nothing", "selective", "all"):
        model = qwen().train()
        backbone = split(model).backbone
        if way != "nothing":
            recompute(model, selective=way == "selective")
        with LiveMemory() as live:
            with along_branches(backbone, {}):
                hidden = backbone(input_ids=IDS, position_ids=POSITIONS, use_cache=False).last_hidden_state
            kept[way] = live.now
        with Calls() as calls:
            hidden.sum().backward()
        attention = sum(n for name, n in calls.count.items() if name.startswith("_scaled_dot") and "backward" not in name)
        repeated[way] = calls.count["mm"] + calls.count["bmm"], attention, calls.count["silu"]
    layers = len(backbone.layers)
    assert repeated["selective"] == (*repeated["nothing"][:2], layers)
    assert repeated["nothing"][1:] == (0, 0)
    assert repeated["all"][0] > repeated["nothing"][0] + 5 * layers and repeated["all"][2] == layers
    assert kept["all"] < 0.5 * kept["selective"] < 0.4 * kept["nothing"]
