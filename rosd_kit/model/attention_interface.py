"""Lends a model another attention for a while, through transformers' attention interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from transformers import PretrainedConfig

T = TypeVar("T")


@contextmanager
def attend_by(
    attend: Callable[..., object], name: str, config: PretrainedConfig, current: ContextVar[T], value: T
) -> Iterator[None]:
    """Make models with this configuration attend by `attend` while the context is open, with `value` as `current` meanwhile.

    `name` is what transformers knows the function by. The configuration belongs to the model: other threads must not run it.
    """
    _register(name, attend)
    usual, token = config._attn_implementation, current.set(value)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = usual
        current.reset(token)


@cache
def _register(name: str, attend: Callable[..., object]) -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(name, attend)
