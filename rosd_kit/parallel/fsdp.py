"""FSDP2: shards a model's layers across ranks, and converts between full tensors and shards.

Only the layers are sharded. Embeddings, the last norm and the head stay whole on every rank, because the loss reads the head
chunk by chunk and produces its gradient as one tensor; their gradients are summed over ranks as in `ddp`. Does not know losses
or checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rosd_kit.errors import RunError
from rosd_kit.parallel.ranks import Ranks


def shard(model: nn.Module, backbone: nn.Module, ranks: Ranks) -> None:
    """Shard the layers of a transformers model in place. Gradients become sums over ranks, not means.

    Raises `RunError` for an architecture that does not name its layer modules.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in backbone.modules() if type(module).__name__ in names]
    if not layers:
        raise RunError(
            f"parallel.mode: 'fsdp' is not possible with {type(model).__name__}: transformers does not name its layer modules. "
            "Use parallel.mode=ddp."
        )
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    units = [fully_shard(layer, mesh=mesh, reshard_after_forward=True) for layer in layers]
    whole = {parameter for parameter in backbone.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(backbone, mesh=mesh, ignored_params=whole)
    # By default FSDP prefetches, in the backward pass, in the reverse order of what ran before, and that includes generation,
    # which differs between ranks. An explicit order is the same on every rank: the previous layer, and for the first layer
    # itself, which is already there.
    for previous, unit in zip([units[0], *units], units, strict=False):
        unit.set_modules_to_backward_prefetch([previous])
    for unit in _units(model):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo supports no other reduction
        if hasattr(unit, "set_reduce_scatter_unused_params"):  # experts that no token of this rank reached
            unit.set_reduce_scatter_unused_params(True, recurse=False)
    with torch.no_grad():  # FSDP fixes its root and groups in the first forward pass
        backbone(input_ids=torch.zeros(1, 1, dtype=torch.long, device=ranks.device), use_cache=False)


def is_sharded(model: nn.Module) -> bool:
    """Return whether the model's layers are sharded."""
    return any(True for _ in _units(model))


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Hold all weights on every rank, so that each may run the model independently. All ranks call it together.

    Does nothing for a model that is not sharded.
    """
    units = list(_units(model))
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)
        if units and hasattr(units[0], "reset_iter_state"):
            units[0].reset_iter_state()  # else it records every forward pass until the next backward


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor, detached. A shard is gathered, so all ranks must call this together."""
    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """Shard a full tensor in the same way as another; return it unchanged if the other is not sharded, or it is already."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@contextmanager
def swapped(pairs: Iterable[tuple[nn.Parameter, Tensor]]) -> Iterator[None]:
    """Let parameters compute with other values of the same shape, dtype and sharding; restore them afterwards.

    Whole parameters point to the other storage, which copies nothing. FSDP keeps references to its shards' storage, so shards
    exchange contents instead.
    """
    pairs = list(pairs)
    whole = [(parameter, parameter.data, value) for parameter, value in pairs if not isinstance(parameter, DTensor)]
    shards = [(local_shard(p.detach()), local_shard(value)) for p, value in pairs if isinstance(p, DTensor)]
    try:
        for parameter, _, value in whole:
            parameter.data = value
        _exchange(shards)
        yield
    finally:
        _exchange(shards)
        for parameter, original, _ in whole:
            parameter.data = original


def _exchange(pairs: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for one, other in pairs:
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)


def _units(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))
