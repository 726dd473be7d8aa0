"""Gradients accumulated in place equal those of autograd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rosd_kit.training.grad_accumulation import accumulate_in_place


class ResultShapes(TorchDispatchMode):
    """Collects the shapes of all results of operations, except views of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        inputs = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in inputs:
            self.shapes.append(tuple(result.shape))
        return result


class Small(nn.Module):
    """An embedding, whose row 0 is padding, and two layers, the first with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 10, padding_idx=0)
        self.first, self.second = nn.Linear(10, 11), nn.Linear(11, 5, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.second(self.first(self.embedding(ids)).tanh())


def two_micro_batches(model: nn.Module, context: Callable[[], Any]) -> tuple[dict[str, Tensor], list[tuple[int, ...]]]:
    """Return the gradients of two micro-batches, and the shapes that the second backward pass allocated."""
    model.zero_grad()
    allocated = ResultShapes()
    with context():
        for ids in (torch.tensor([[3, 0, 3, 9]]), torch.tensor([[9, 1, 0], [3, 9, 2]])):
            loss = model(ids).pow(2).sum()
            with allocated if ids.shape[0] == 2 else nullcontext():
                loss.backward()
    assert not any("forward" in vars(module) for module in model.modules())
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, allocated.shapes


def test_gradients_are_equal_and_nothing_as_large_as_a_weight_is_allocated() -> None:
    torch.manual_seed(0)
    model = Small().double()
    expected, usual = two_micro_batches(model, nullcontext)
    computed, shapes = two_micro_batches(model, lambda: accumulate_in_place(model))
    assert computed.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(computed[name], gradient)
    assert not computed["embedding.weight"][0].any()
    assert {(50, 10), (11, 10)} <= set(usual)
    assert not {(50, 10), (11, 10), (10, 11), (5, 11), (11, 5)} & set(shapes)


@pytest.mark.parametrize("left_out", ["frozen", "hooked", "narrow embedding", "autocast"])
def test_autograd_handles_what_cannot_be_accumulated_in_place(left_out: str) -> None:
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
        expected, _ = two_micro_batches(model, nullcontext)
        seen = len(called)
        computed, shapes = two_micro_batches(model, lambda: accumulate_in_place(model))
    assert computed.keys() == expected.keys() and ("first.weight" in computed) is (left_out != "frozen")
    assert len(called) == 2 * seen
    assert ((50, 10) in shapes) is (left_out == "narrow embedding")
    for name, gradient in expected.items():
        torch.testing.assert_close(computed[name], gradient, rtol=0.02, atol=0.02)
