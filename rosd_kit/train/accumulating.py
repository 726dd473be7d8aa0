"""Gradients of linear layers and embeddings, added in place to what earlier micro-batches left.

Autograd makes a new gradient as large as the weight for every micro-batch and then adds it. Of an embedding with tied head
that is a tensor of the whole vocabulary, nearly all of it zeros. Here the product itself adds to `.grad`, and an embedding adds
the rows that were looked up. Nothing else is differentiated differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import embedding, linear
from torch.overrides import TorchFunctionMode


@contextmanager
def in_place(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let `backward` add the gradients of these parameters in place, for forward passes in here, in this thread.

    Left out are those that are frozen, in pieces (`DTensor`) or watched by hooks, narrow embeddings, of which many a row is
    added to one, and passes under autocast.
    """
    mode = _InPlace(parameters)
    token = _CURRENT.set(mode)
    try:
        with mode:
            yield
    finally:
        _CURRENT.reset(token)


def as_now() -> AbstractContextManager[Any]:
    """Return what lets a forward pass be repeated later as it would run now, also in another thread."""
    return _CURRENT.get(None) or nullcontext()


class _InPlace(TorchFunctionMode):
    """Puts functions of our own in the place of torch's where they may add to one of the parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self._mine = {id(parameter): parameter for parameter in parameters if _may(parameter)}

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is linear and torch.is_grad_enabled():
            return self._linear(*args, **(kwargs or {}))
        if function is embedding and torch.is_grad_enabled():
            return self._embedding(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
        plain = input.dtype == weight.dtype and not torch.is_autocast_enabled(input.device.type)
        if id(weight) in self._mine and plain and (bias is None or id(bias) in self._mine or not bias.requires_grad):
            return _Linear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return linear(input, weight, bias)

    def _embedding(
        self,
        input: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Any:
        plain = max_norm is None and not scale_grad_by_freq and not sparse and weight.dtype.itemsize >= 4
        if id(weight) in self._mine and plain:
            return _Embedding.apply(input, weight, padding_idx)  # type: ignore[no-untyped-call]
        return embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)


def gradient(parameter: Tensor) -> Tensor:
    """Return a parameter's gradient to add to."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _may(parameter: nn.Parameter) -> bool:
    watched = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return parameter.requires_grad and not isinstance(parameter, DTensor) and not watched


_CURRENT: ContextVar[_InPlace] = ContextVar("in_place")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input)
        ctx.weight, ctx.bias = weight, bias  # themselves: what is saved may come back as another tensor, without their gradient
        return linear(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (input,), (above,) = ctx.saved_tensors, gradients
        rows = above.reshape(-1, above.shape[-1])
        under = input.reshape(-1, input.shape[-1])
        if ctx.weight.grad is None:
            ctx.weight.grad = rows.T @ under
        else:
            ctx.weight.grad.addmm_(rows.T, under)
        if ctx.bias is not None and ctx.bias.requires_grad:
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
            rows = rows * (ids != ctx.padding % len(ctx.weight))[:, None]
        gradient(ctx.weight).index_add_(0, ids, rows)
        return None, None, None
