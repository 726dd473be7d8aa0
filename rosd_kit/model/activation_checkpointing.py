"""What a layer's forward pass leaves for the backward pass, and what is computed once more there instead.

    all        a layer keeps its input alone: the whole forward pass runs twice.
    selective  it keeps what its matrix products and its attention put out, and repeats the rest, which is cheap: norms,
               activations, rotations of positions, keys and values put side by side.

The layers are those that transformers checkpoints. Texts may run along a tree (`branching.py`) all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from rosd_kit.model.tree_attention import as_now

#: Operators whose results are dear, by name: those of every kernel that scaled dot-product attention may choose included.
_DEAR = ("mm", "addmm", "bmm", "baddbmm", "_grouped_mm", "_flash_attn_forward", "_flash_attn_varlen_forward")
_ATTENTION = "_scaled_dot_product_"


def recompute(model: Any, *, selective: bool) -> None:
    """Let a model of transformers recompute while it trains; raises `ValueError` when its architecture does not allow it."""
    # transformers 5.2x renames it
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, "context_fn": partial(_contexts, selective)})


def _contexts(selective: bool) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return what a layer's forward pass runs in, and its repetition: attention there runs along the branches of now."""
    first: AbstractContextManager[Any] = nullcontext()
    again: AbstractContextManager[Any] = nullcontext()
    if selective:
        first, again = create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]
    return first, _both(as_now(), again)


@contextmanager
def _both(one: AbstractContextManager[Any], other: AbstractContextManager[Any]) -> Iterator[None]:
    with one, other:
        yield


def _policy(_: Any, operator: Any, *given: Any, **named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if _is_dear(operator) else CheckpointPolicy.PREFER_RECOMPUTE


@cache
def _is_dear(operator: Any) -> bool:
    name = str(getattr(operator, "_opname", "") or operator).rpartition("::")[2]
    return name in _DEAR or name.startswith(_ATTENTION)
