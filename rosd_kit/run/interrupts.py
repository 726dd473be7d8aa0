"""The first interrupt finishes the current step and saves; the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rosd_kit.errors import UserInterrupt
from rosd_kit.parallel.ranks import Ranks


class Interrupts:
    """Whether a run should stop. `requested` is set on the rank that was interrupted, `stopping` on all once they agree."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.requested = False
        self.stopping = False

    def agree(self) -> None:
        """Agree with the other ranks whether to stop; all of them call this at the same point."""
        self.stopping = self._ranks.any(self.requested or self.stopping)


def stopping_signals(ranks: Ranks) -> list[signal.Signals]:
    """Return the signals that stop a run. A launcher passes SIGTERM on to its processes when the machine is taken away."""
    return [signal.SIGINT, signal.SIGTERM] if ranks.count > 1 else [signal.SIGINT]


@contextmanager
def interruptible(on_first: Callable[[], None], signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Call `on_first` at the first of these signals and raise `UserInterrupt` at the second.

    Changes nothing outside the main thread, which alone may handle signals. A handler that was set inside stays in force.
    """
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise UserInterrupt
        interrupted = True
        on_first()

    try:
        earlier = {number: signal.signal(number, handle) for number in signals}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in earlier.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


@contextmanager
def user_interrupts() -> Iterator[None]:
    """Raise `UserInterrupt` at an interrupt, so that a component's own `KeyboardInterrupt` is no interrupt by the user.

    Changes nothing outside the main thread, or where another handler than Python's is in force.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise UserInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
