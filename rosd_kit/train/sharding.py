"""FSDP2: a model's layers cut up among processes, and whole tensors from and to the pieces.

Only the layers are cut up. Embeddings, the last norm and the head stay whole in every process, because the loss engine reads
the head chunk by chunk and its gradient comes in one piece; their gradients are added up like those of `ddp`.
Knows nothing of losses or checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rosd_kit.errors import RunError
from rosd_kit.train.ranks import Ranks


def shard(model: nn.Module, backbone: nn.Module, ranks: Ranks) -> None:
    """Cut the layers of a transformers model up, in place. Gradients are then sums over processes, not means.

    Raises `RunError` for an architecture that does not say which of its modules are layers.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in backbone.modules() if type(module).__name__ in names]
    if not layers:
        raise RunError(
            f"parallel.mode: 'fsdp' is not possible with {type(model).__name__}: transformers does not say what its "
            "layers are. Use parallel.mode=ddp."
        )
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    whole = {parameter for parameter in backbone.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(backbone, mesh=mesh, ignored_params=whole)
    for module in _units(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def is_sharded(model: nn.Module) -> bool:
    """Return whether the model's layers are cut up."""
    return any(True for _ in _units(model))


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Hold all weights in every process, so that each may run the model as often as it likes. Called by all at once.

    Nothing changes for a model that is not in pieces.
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


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor, detached. A piece is gathered: all processes must ask."""
    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def collect(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Return whole tensors for the main process to write, and nothing to the others; gathered one at a time."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        entire = whole(tensor)
        if ranks.is_main:
            found[name] = entire.cpu() if isinstance(tensor, DTensor) else entire
    return found


def piece(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor in the form of another: this process's piece of it where that is a piece."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """Return what of a tensor this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _units(model: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))
