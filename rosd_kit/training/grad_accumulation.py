"""Gradients of linear layers and embeddings, added in place to what earlier micro-batches left.

Autograd makes a new gradient as large as the weight for every micro-batch and then adds it. Of an embedding that is a tensor of
the whole vocabulary, nearly all of it zeros. Here the product itself adds to `.grad`, and an embedding adds the rows that were
looked up. Nothing else is differentiated differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import embedding, linear


@contextmanager
def in_place(network: nn.Module) -> Iterator[None]:
    """Let backward passes in here add gradients in place, of forward passes in here, those that are repeated included.

    Left to autograd are weights that are frozen, in pieces (`DTensor`) or watched by hooks, modules whose forward pass is not
    torch's own, narrow embeddings, of which many a row is added to one, and what runs under autocast.
    """
    changed: list[nn.Module] = []
    for module in network.modules():
        own = _own_forward(module)
        if own is not None and "forward" not in vars(module):
            module.forward = partial(own, module)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def gradient(parameter: Tensor) -> Tensor:
    """Return a parameter's gradient to add to."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _own_forward(module: nn.Module) -> Any:
    """Return what runs in the place of a module's forward pass, if anything may."""
    if type(module) is nn.Linear and _may(module.weight) and (module.bias is None or _may(module.bias)):
        return _linear
    if type(module) is nn.Embedding and _may(module.weight) and module.weight.dtype.itemsize >= 4:
        plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        return _embedding if plain else None
    return None


def _may(parameter: Tensor) -> bool:
    watched = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return parameter.requires_grad and not isinstance(parameter, DTensor) and not watched


def _linear(module: nn.Linear, input: Tensor) -> Any:
    if torch.is_grad_enabled() and input.dtype == module.weight.dtype and not torch.is_autocast_enabled(input.device.type):
        return _Linear.apply(input, module.weight, module.bias)  # type: ignore[no-untyped-call]
    return linear(input, module.weight, module.bias)


def _embedding(module: nn.Embedding, input: Tensor) -> Any:
    if torch.is_grad_enabled():
        return _Embedding.apply(input, module.weight, module.padding_idx)  # type: ignore[no-untyped-call]
    return embedding(input, module.weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input)
        ctx.weight, ctx.bias = weight, bias  # themselves: what is saved may come back as another tensor, without their gradient
        return linear(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (input,), (above,) = ctx.saved_tensors, gradients
        rows, under = above.reshape(-1, above.shape[-1]), input.reshape(-1, input.shape[-1])
        if ctx.weight.grad is None:
            ctx.weight.grad = rows.T @ under
        else:
            ctx.weight.grad.addmm_(rows.T, under)
        if ctx.bias is not None:
            gradient(ctx.bias).add_(rows.sum(0))
        return above @ ctx.weight if ctx.needs_input_grad[0] else None, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(input)
        ctx.weight, ctx.padding = weight, padding
        return embedding(input, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ids = ctx.saved_tensors[0].flatten()
        rows = gradients[0].reshape(len(ids), -1)
        if ctx.padding is not None:  # its row is never trained
            rows = rows * (ids != ctx.padding)[:, None]
        gradient(ctx.weight).index_add_(0, ids, rows)
        return None, None, None
