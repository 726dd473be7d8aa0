"""Accumulates gradients of linear layers and embeddings in place, on top of those from earlier micro-batches.

Autograd allocates a new gradient as large as the weight for every micro-batch and then adds it; for an embedding that is a
tensor over the whole vocabulary, nearly all zeros. Here the matrix product adds directly to `.grad`, and an embedding adds only
the rows that were looked up. Everything else is differentiated as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import embedding, linear

from rosd_kit.model.tensors import AutogradContext


@contextmanager
def accumulate_in_place(network: nn.Module) -> Iterator[None]:
    """Make backward passes add gradients in place; forward and backward must both run inside, recomputation included.

    Autograd keeps handling weights that are frozen, sharded (`DTensor`) or watched by hooks; modules with a forward pass other
    than torch's own; embeddings in narrow dtypes, where many rows are added to one; and anything under autocast.
    """
    changed: list[nn.Module] = []
    for module in network.modules():
        forward = _replacement(module)
        if forward is not None and "forward" not in vars(module):
            module.forward = partial(forward, module)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def ensure_grad(parameter: Tensor) -> Tensor:
    """Return a parameter's gradient, allocated as zeros if there is none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _replacement(module: nn.Module) -> Callable[..., Tensor] | None:
    """Return the function that replaces a module's forward pass, if it may be replaced."""
    if type(module) is nn.Linear and _is_eligible(module.weight) and (module.bias is None or _is_eligible(module.bias)):
        return _linear
    if type(module) is nn.Embedding and _is_eligible(module.weight) and module.weight.dtype.itemsize >= 4:
        plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        return _embedding if plain else None
    return None


def _is_eligible(parameter: Tensor) -> bool:
    hooks = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return parameter.requires_grad and not isinstance(parameter, DTensor) and not hooks


def _linear(module: nn.Linear, input: Tensor) -> Tensor:
    if torch.is_grad_enabled() and input.dtype == module.weight.dtype and not torch.is_autocast_enabled(input.device.type):
        output: Tensor = _Linear.apply(input, module.weight, module.bias)  # type: ignore[no-untyped-call]
        return output
    return linear(input, module.weight, module.bias)


def _embedding(module: nn.Embedding, input: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        output: Tensor = _Embedding.apply(input, module.weight, module.padding_idx)  # type: ignore[no-untyped-call]
        return output
    return embedding(input, module.weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input)
        # Not through save_for_backward, which may return another tensor object, without the parameter's `.grad`.
        ctx.weight, ctx.bias = weight, bias
        return linear(input, weight, bias)

    @staticmethod
    def backward(ctx: AutogradContext, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (input,), (output_gradient,) = ctx.saved_tensors, gradients
        output_rows = output_gradient.reshape(-1, output_gradient.shape[-1])
        input_rows = input.reshape(-1, input.shape[-1])
        if ctx.weight.grad is None:
            ctx.weight.grad = output_rows.T @ input_rows
        else:
            ctx.weight.grad.addmm_(output_rows.T, input_rows)
        if ctx.bias is not None:
            ensure_grad(ctx.bias).add_(output_rows.sum(0))
        return output_gradient @ ctx.weight if ctx.needs_input_grad[0] else None, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, input: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(input)
        ctx.weight, ctx.padding = weight, padding
        return embedding(input, weight)

    @staticmethod
    def backward(ctx: AutogradContext, *gradients: Tensor) -> tuple[None, None, None]:
        ids = ctx.saved_tensors[0].flatten()
        rows = gradients[0].reshape(len(ids), -1)
        if ctx.padding is not None:  # the padding row is never trained
            rows = rows * (ids != ctx.padding)[:, None]
        ensure_grad(ctx.weight).index_add_(0, ids, rows)
        return None, None, None
