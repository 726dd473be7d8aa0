"""Fused kernels for what a layer computes besides matrix products and attention: norms, rotary embeddings, gated activations.

    liger     the Triton kernels of liger-kernel, for the architectures it knows
    compile   torch.compile of each norm, and of what gated MLPs do between their matrix products, which stay visible to
              selective activation checkpointing; attention stays as it is, because its segments differ from batch to batch

Does not know losses: the head has an engine of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rosd_kit.errors import RunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kernels = Literal["plain", "liger", "compile"]

#: Ends of the class names of norms.
_NORMS = ("RMSNorm", "LayerNorm")
#: The forward pass of transformers' gated MLPs.
_GATED = "self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))"
#: What liger-kernel replaces outside the layers, by its own options: ours are the head and its loss.
_NOT_LIGER = ("cross_entropy", "fused_linear_cross_entropy")


def apply_kernels(model: PreTrainedModel, kernels: Kernels) -> None:
    """Replace a transformers model's eager kernels in place; copies made later do not have compiled norms.

    Raises `RunError` if `liger` has no kernels for this machine or architecture, or `compile` finds nothing to compile.
    """
    if kernels == "liger":
        device = next(model.parameters()).device.type
        if device == "cpu":
            raise RunError("model.kernels: 'liger' needs a GPU, and the model is on the CPU. Use plain or compile.")
        use_liger(model)
    elif kernels == "compile":
        _compile(model)


def use_liger(model: PreTrainedModel) -> None:
    """Let a model's layers use liger-kernel, on whatever device it is.

    liger-kernel also replaces the rotary embedding of all models of this architecture in the process.
    Raises `RunError` where the package or the architecture is missing.
    """
    try:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as PATCHES
    except ImportError as error:
        raise RunError("model.kernels: 'liger' needs liger-kernel. Install it: pip install 'rosd-kit[liger]'.") from error
    architecture = model.config.model_type
    if architecture not in PATCHES:
        raise RunError(
            f"model.kernels: liger-kernel has none for {architecture!r} (it knows {', '.join(sorted(PATCHES))}). "
            "Use compile or plain."
        )
    patch = PATCHES[architecture]
    patch(model=model, **{name: False for name in _NOT_LIGER if name in inspect.signature(patch).parameters})


def _compile(model: nn.Module) -> None:
    """Compile norms and gates for all shapes at once."""
    norms = [module for module in model.modules() if type(module).__name__.endswith(_NORMS)]
    gated = [module for module in model.modules() if _is_gated_mlp(type(module))]
    if not norms and not gated:
        raise RunError(f"model.kernels: 'compile' finds neither norms nor gated MLPs in {type(model).__name__}. Use plain.")
    for norm in norms:
        norm.compile(dynamic=True)
    for mlp in gated:
        mlp.forward = MethodType(_gated_forward, mlp)


def _is_gated_mlp(kind: type[nn.Module]) -> bool:
    try:
        return _GATED in inspect.getsource(kind.forward)
    except (OSError, TypeError):  # no source
        return False


def _gated_forward(mlp: Any, x: Tensor) -> Tensor:
    projected: Tensor = mlp.down_proj(_compiled_gate()(mlp.act_fn, mlp.gate_proj(x), mlp.up_proj(x)))
    return projected


@cache
def _compiled_gate() -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    return torch.compile(lambda activation, gate, up: activation(gate) * up, dynamic=True)
