"""Importing a plugin's code with a clock beside it: how long it took, and an end to an import that never comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rosd_kit.errors import PluginError

#: Seconds that a plugin's import may take before it is given up; 0 waits for ever.
DEADLINE_VARIABLE = "ROSD_KIT_PLUGIN_DEADLINE"
DEADLINE = 60.0
#: Seconds from which on an import is called slow.
SLOW = 2.0


def timed(load: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `load` returns and the seconds it took. Raises `PluginError` at the deadline, and whatever it raises."""
    limit = deadline()
    began = time.monotonic()
    with _ended_after(limit):
        return load(), time.monotonic() - began


def deadline() -> float:
    """Return the limit in seconds that the environment sets; raises `PluginError` where it is no number."""
    text = os.environ.get(DEADLINE_VARIABLE, "")
    try:
        return max(0.0, float(text)) if text else DEADLINE
    except ValueError:
        raise PluginError(f"{DEADLINE_VARIABLE}={text!r} is not a number of seconds, such as 60; 0 waits for ever") from None


@contextmanager
def _ended_after(limit: float) -> Iterator[None]:
    """Interrupt what runs inside after so many seconds.

    An alarm does it, so it works in the main thread of a Unix process and for Python code, waiting included; code in C that
    never returns is not interrupted. An alarm that was set before goes on afterwards.
    """
    if limit <= 0 or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise PluginError(
            f"its import was given up after {limit:g} s; {DEADLINE_VARIABLE} sets the limit in seconds, 0 for none"
        )

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, every = signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), every)
