"""Gradients that are added in place are those that autograd would have made and added."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rosd_kit.train.accumulating import in_place
from rosd_kit.train.branching import Branches, branching
from rosd_kit.train.head import split
from rosd_kit.train.recomputing import recompute
from tests.train.networks import lora, qwen


class Results(TorchDispatchMode):
    """Collects the shapes of all that operations make, views of what they were given left out."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {one.untyped_storage().data_ptr() for one in args if isinstance(one, Tensor)}
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
            self.shapes.append(tuple(made.shape))
        return made


class Small(nn.Module):
    """An embedding, whose row 0 is padding, and two layers, the first with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 10, padding_idx=0)
        self.first, self.second = nn.Linear(10, 11), nn.Linear(11, 5, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.second(self.first(self.embedding(ids)).tanh())


def taken(model: nn.Module, context: Callable[[], Any]) -> tuple[dict[str, Tensor], list[tuple[int, ...]]]:
    """Return the gradients of two micro-batches, and the shapes of what the second backward pass made."""
    model.zero_grad()
    found = Results()
    with context():
        for ids in (torch.tensor([[3, 0, 3, 9]]), torch.tensor([[9, 1, 0], [3, 9, 2]])):
            loss = model(ids).pow(2).sum()
            with found if ids.shape[0] == 2 else nullcontext():
                loss.backward()
    assert not any("forward" in vars(module) for module in model.modules())
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, found.shapes


def test_they_are_the_same_and_nothing_as_large_as_a_weight_is_made() -> None:
    torch.manual_seed(0)
    model = Small().double()
    expected, usual = taken(model, nullcontext)
    found, shapes = taken(model, lambda: in_place(model))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    assert not found["embedding.weight"][0].any()
    assert {(50, 10), (11, 10)} <= set(usual)
    assert not {(50, 10), (11, 10), (10, 11), (5, 11), (11, 5)} & set(shapes)


@pytest.mark.parametrize("left_out", ["frozen", "hooked", "narrow embedding", "autocast"])
def test_what_cannot_be_added_in_place_is_left_to_autograd(left_out: str) -> None:
    torch.manual_seed(0)
    model = Small().double()
    called: list[Tensor] = []
    if left_out == "frozen":
        model.first.weight.requires_grad_(False)
    elif left_out == "hooked":
        model.first.weight.register_hook(called.append)
    elif left_out == "narrow embedding":
        model.bfloat16()
    else:
        model.float()
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=left_out == "autocast")
    with autocast:
        expected, _ = taken(model, nullcontext)
        seen = len(called)
        found, shapes = taken(model, lambda: in_place(model))
    assert found.keys() == expected.keys() and ("first.weight" in found) is (left_out != "frozen")
    assert len(called) == 2 * seen
    assert ((50, 10) in shapes) is (left_out == "narrow embedding")
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("selective", [None, False, True])
@pytest.mark.parametrize("make", [qwen, lora])
def test_recomputed_layers_find_branches_and_gradients_as_they_were(make: Any, selective: bool | None) -> None:
    """Along a tree, behind keys and values of a beginning, with the backward pass where attention is the usual one again."""
    model = make().train()
    ids, positions = torch.tensor([[5, 6, 7, 8, 6, 9]]), torch.tensor([[2, 3, 4, 5, 4, 5]])
    past = {
        layer.self_attn.layer_idx: tuple(
            torch.randn(1, layer.self_attn.k_proj.out_features // layer.self_attn.head_dim, 2, layer.self_attn.head_dim)
            .double()
            .requires_grad_()
            for _ in range(2)
        )
        for layer in split(model).backbone.layers
    }
    found = []
    for changed in (False, True):
        if changed:
            if selective is None:
                continue
            recompute(model.get_base_model() if make is lora else model, selective=selective)
        model.zero_grad()
        for pair in past.values():
            for tensor in pair:
                tensor.grad = None
        backbone = split(model).backbone
        with in_place(backbone):
            for _ in range(2):
                branches = Branches([2, 2, 2], [(), (0,), (0,)], past=past)
                with branching(backbone.config, branches):
                    hidden = backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
                hidden.pow(3).sum().backward()
        found.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            | {f"past {layer} {i}": pair[i].grad.clone() for layer, pair in past.items() for i in range(2)}
        )
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[-1][name], gradient)
        assert gradient.any() or "lora_A" in name, name
