"""Interrupts that end a run at a good moment: the first finishes the step and saves, the second stops at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(tell: Callable[[], None], signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Call `tell` at the first of these signals, raise `KeyboardInterrupt` at the second.

    Outside the main thread nothing is changed: whoever runs there handles signals.
    """
    told = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        tell()

    try:
        earlier = {number: signal.signal(number, stop) for number in signals}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
