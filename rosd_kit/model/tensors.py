"""Small tensor helpers shared by the model and the training step."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

AutogradContext = Any  # functions put attributes of their own on it, which torch's type does not allow


def select_rows(tensor: Tensor, rows: Int[Tensor, " rows"]) -> Tensor:
    """Return the given rows, in ascending order without repeats; all rows return the tensor itself, not a copy."""
    return tensor if len(rows) == len(tensor) else tensor.index_select(0, to_device(rows, tensor.device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to the device without waiting for the work queued there.

    Pageable memory is copied before this returns, so the caller may change the original at once.
    """
    return tensor.to(device, non_blocking=True)
