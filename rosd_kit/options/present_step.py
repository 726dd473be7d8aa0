"""The step whose option values hold now. It belongs to the context of a thread: a prefetched batch has another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STEP: ContextVar[int | None] = ContextVar("rosd_kit_step", default=None)


def present_step() -> int | None:
    """Return the step, counted from 0, whose option values hold in this thread; None outside a run's steps."""
    return _STEP.get()


@contextmanager
def options_at(step: int) -> Iterator[None]:
    """Let every component's `config` give the values of a step, counted from 0.

    A thread that is started inside does not inherit this, unless it runs in `contextvars.copy_context()`.
    """
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)
