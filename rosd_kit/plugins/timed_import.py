"""Imports a plugin under a deadline and measures how long it takes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from rosd_kit.errors import PluginError

#: Environment variable: seconds that a plugin's import may take; 0 means no limit.
DEADLINE_VARIABLE = "ROSD_KIT_PLUGIN_DEADLINE"
DEADLINE = 60.0
#: Seconds from which an import counts as slow.
SLOW = 2.0
T = TypeVar("T")


def timed(load: Callable[[], T]) -> tuple[T, float]:
    """Return the result of `load` and the seconds it took. Raises `PluginError` at the deadline, else what `load` raises."""
    limit = deadline()
    began = time.monotonic()
    with _ended_after(limit):
        return load(), time.monotonic() - began


def deadline() -> float:
    """Return the limit in seconds from the environment. Raises `PluginError` if it is not a number."""
    text = os.environ.get(DEADLINE_VARIABLE, "")
    try:
        return max(0.0, float(text)) if text else DEADLINE
    except ValueError:
        raise PluginError(
            f"{DEADLINE_VARIABLE}={text!r} is not a number of seconds, for example 60; 0 means no limit"
        ) from None


@contextmanager
def _ended_after(limit: float) -> Iterator[None]:
    """Interrupt the body after `limit` seconds, by an alarm.

    Works in the main thread of a Unix process, for Python code and for waiting, but not for C code that never returns. An alarm
    that was set before continues afterwards.
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
