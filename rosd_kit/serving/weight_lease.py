"""Keeps one set of weights on the servers while requests need it. Knows nothing of servers or requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rosd_kit.errors import EngineError
from rosd_kit.types import PolicyWeights


class WeightLease:
    """Lets many threads use the same weights at once, and swaps weights only when no thread uses them.

    `holds` returns whether the servers hold some weights; `load` makes them hold these.
    """

    def __init__(self, *, holds: Callable[[PolicyWeights], bool], load: Callable[[PolicyWeights], None]) -> None:
        self._holds = holds
        self._load = load
        self._users = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, which: PolicyWeights) -> Iterator[None]:
        """Keep these weights in place; wait first for users of other weights. Raises `EngineError` once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._users == 0 or self._holds(which))
            if self._closed:
                raise EngineError("rollout: the engine was closed.")
            if not self._holds(which):
                self._load(which)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self, *, cancel_load: Callable[[], None]) -> None:
        """Refuse further use and wake all waiting threads. `cancel_load` must end a load that is running."""
        self._closed = True  # without the lock, which a running load holds
        cancel_load()
        with self._changed:
            self._changed.notify_all()
