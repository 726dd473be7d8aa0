"""Selective activation recomputation on autograd's own graph: what follows cheaply from a kept tensor is not kept.

Autograd keeps the inputs of a layer's operations, and many of them follow from others: the input of a projection is a norm's
output, and the norm has kept the two factors of that. After a layer's forward pass, `replay_activations` looks for such
tensors in the layer's graph, frees them, and computes each again, by the same operation on the same tensors, when the backward
pass asks for it. So gradients are the same to the last bit, and neither a matrix product nor attention runs twice.

What is kept: the inputs of norms, attention, gates and activations, and the output of attention. It sees eager operations,
not what fused kernels do. Does not know losses or layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu
from torch.utils._pytree import tree_leaves

#: A node of autograd's graph: the operation that made a tensor. Its attributes differ from operation to operation.
Node = Any
#: Where a tensor comes from: a node, None for one that needs no gradient, and the index among what the node puts out.
Edge = tuple[Node | None, int]
#: What an operation has saved, before it is unpacked: torch's `SavedTensor`, whose type has no methods.
SavedTensor = Any

#: Consumers by name: under which names they keep inputs, and which inputs these are.
_KEPT_INPUTS = {
    "MmBackward0": (("self", 0),),
    "AddmmBackward0": (("mat1", 1),),
    "MulBackward0": (("self", 0), ("other", 1)),
    "PowBackward0": (("self", 0),),
    "SiluBackward0": (("self", 0),),
    "GeluBackward0": (("self", 0),),
}
#: Operations that only change the shape or copy.
_RESHAPING = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "CloneBackward0")


class Replay:
    """A tensor that is computed when a backward pass needs it, once for all who need it: it is dropped after the last.

    `compute` gets the values of `inputs`.
    """

    def __init__(self, compute: Callable[..., Tensor], *inputs: Replay) -> None:
        self._compute = compute
        self._inputs = inputs
        self._uses = 0
        self._value: Tensor | None = None

    def add_use(self) -> None:
        """Count another place that will ask for the value once."""
        self._uses += 1
        if self._uses == 1:
            for each in self._inputs:
                each.add_use()

    def value(self) -> Tensor:
        """Return the tensor, computed if nobody has asked for it yet."""
        value = self._value
        if value is None:
            with torch.no_grad():
                value = self._compute(*(each.value() for each in self._inputs))
        self._uses -= 1
        self._value = value if self._uses > 0 else None
        return value


def replay_activations(layer: nn.Module) -> None:
    """Let a layer free, after each forward pass, what its backward pass can compute again cheaply."""
    layer.register_forward_hook(_thin_graph, with_kwargs=True)


def replace_saved(saved: SavedTensor, tensor: Tensor, replay: Callable[[], Tensor]) -> bool:
    """Free a tensor that an operation has saved for its backward pass; `replay` returns an equal one then.

    Returns False, and changes nothing, where other hooks keep it: under activation checkpointing, for example. What the
    operation has saved in place of `tensor` stays: some attention kernels repeat or pad their keys first.
    """
    storage, shape = tensor.untyped_storage()._cdata, tensor.shape
    try:
        saved.register_hooks(
            lambda kept: None if (kept.untyped_storage()._cdata, kept.shape) == (storage, shape) else kept,
            lambda kept: replay() if kept is None else kept,
        )
    except RuntimeError:
        return False
    return True


def saved_by_attention(node: Node) -> Sequence[SavedTensor]:
    """Return where a fused attention saves its keys and its values; nothing for another node."""
    if hasattr(node, "_raw_saved_key") and hasattr(node, "_raw_saved_value"):
        return node._raw_saved_key, node._raw_saved_value
    if node is not None and node.name() == "_FusedAttentionBackward":  # `memory/shapes.py`
        return node._raw_saved_tensors[1:3]  # type: ignore[no-any-return]
    return ()


def _thin_graph(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    if torch._C._autograd._top_saved_tensors_default_hooks(True):
        return  # others keep what this layer saves; to look at it would make them restore it
    ends = {node for node in map(_maker, tree_leaves((args, kwargs))) if node is not None}
    replays = _Replays()
    # All replays are made first, while none of the saved tensors that they look at is replaced.
    found = [
        (saved, value, replay)
        for node in _between({_maker(leaf) for leaf in tree_leaves(output)} - {None}, ends)
        for saved, value, edge in _kept_inputs(node)
        if (replay := replays.of(edge, value)) is not None
    ]
    for saved, value, replay in found:
        if replace_saved(saved, value, replay.value):
            replay.add_use()


def _maker(value: object) -> Node | None:
    return value.grad_fn if isinstance(value, Tensor) else None


def _between(starts: set[Node], ends: set[Node]) -> Iterator[Node]:
    """Yield the nodes from the makers of a layer's outputs down to those of its inputs, without these."""
    seen, waiting = set(ends), list(starts)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(below for below, _ in node.next_functions)


def _kept_inputs(node: Node) -> list[tuple[SavedTensor, Tensor, Edge]]:
    """Return what a node keeps of its inputs that may have been made cheaply: where, the tensor, and where it comes from."""
    name = node.name()
    if name == "_LinearBackward":  # `training/grad_accumulation.py`
        return [(node._raw_saved_tensors[0], node.saved_tensors[0], node.next_functions[0])]
    return [
        (getattr(node, f"_raw_saved_{kept}"), value, node.next_functions[index])
        for kept, index in _KEPT_INPUTS.get(name, ())
        if (value := getattr(node, f"_saved_{kept}")) is not None
    ]


class _Replays:
    """How to compute what a layer's nodes put out from what other nodes keep, one `Replay` for each node."""

    def __init__(self) -> None:
        self._known: dict[Node, Replay | None] = {}

    def of(self, edge: Edge, value: Tensor | None = None) -> Replay | None:
        """Return how to compute the tensor of an edge, or None if that is not cheap; `value` is the tensor, where known."""
        node, output = edge
        if node is None or output != 0:
            return None
        if node not in self._known:
            self._known[node] = self._replay(node, node.name(), value)
        return self._known[node]

    def _replay(self, node: Node, name: str, value: Tensor | None) -> Replay | None:
        if name.startswith("ScaledDotProduct") and hasattr(node, "_saved_output"):
            return Replay(lambda: node._saved_output)
        if name == "_FusedAttentionBackward":  # `memory/shapes.py`
            return Replay(lambda: node.saved_tensors[3])
        if name == "SiluBackward0":
            return self._from_kept(node, silu)
        if name == "GeluBackward0":
            return self._from_kept(node, partial(gelu, approximate=node._saved_approximate))
        if name == "MulBackward0":
            return self._from_kept(node, torch.mul)
        if name in _RESHAPING:
            shape = node._input_metadata[0].shape
            return self._from_inputs(node, lambda input: input.reshape(shape))
        if name == "TransposeBackward0":
            dims = _signed(node._saved_dim0), _signed(node._saved_dim1)
            return self._from_inputs(node, lambda input: input.transpose(*dims))
        if name == "CatBackward0":
            dim = _signed(node._saved_dim)
            return self._from_inputs(node, lambda *inputs: torch.cat(inputs, dim))
        if name == "ToCopyBackward0":
            made = node._input_metadata[0]
            return self._from_inputs(node, lambda input: input.to(made.device, made.dtype)) or _from_narrow(node, value)
        return None

    def _from_kept(self, node: Node, compute: Callable[..., Tensor]) -> Replay | None:
        """Compute from the inputs that a node keeps. One that it does not keep may have a replay of its own.

        A factor is not kept where the other one needs no gradient.
        """
        inputs = []
        for name, index in _KEPT_INPUTS[node.name()]:
            value = getattr(node, f"_saved_{name}")
            replay = self.of(node.next_functions[index], value)
            if replay is None:
                if value is None:
                    return None
                replay = Replay(partial(getattr, node, f"_saved_{name}"))
            inputs.append(replay)
        return Replay(compute, *inputs)

    def _from_inputs(self, node: Node, compute: Callable[..., Tensor]) -> Replay | None:
        replays = [self.of(edge) for edge in node.next_functions]
        known = [replay for replay in replays if replay is not None]
        return Replay(compute, *known) if len(known) == len(replays) else None


def _from_narrow(node: Node, value: Tensor | None) -> Replay | None:
    """Keep a tensor that was converted from a narrower dtype in that dtype, which loses nothing."""
    (source, index), dtype = node.next_functions[0], node._input_metadata[0].dtype
    if value is None or source is None:
        return None
    narrow = source._input_metadata[index].dtype
    if torch.promote_types(narrow, dtype) != dtype or narrow.itemsize >= dtype.itemsize:
        return None
    kept = value.to(narrow)
    return Replay(lambda: kept.to(dtype))


def _signed(dimension: int) -> int:
    """Return a dimension from autograd's attributes, which show negative ones as unsigned."""
    return dimension - (1 << 64) if dimension >= 1 << 63 else dimension
