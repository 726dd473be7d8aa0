"""Small tensor helpers shared by the model and the training step."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def take(tensor: Tensor, rows: Int[Tensor, " rows"]) -> Tensor:
    """Select rows, given in ascending order without repeats; returns the tensor itself when all are selected."""
    return tensor if len(rows) == len(tensor) else tensor.index_select(0, sent(rows, tensor.device))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to the device without waiting for work queued there.

    Pageable memory is copied before this returns, so the original may change right away.
    """
    return tensor.to(device, non_blocking=True)
