"""Times the phases of a step by the host's clock.

On a GPU, work is queued: a phase seems as short as queueing takes, and the next phase that waits for a result seems longer.
Synchronising after each phase would slow the step down.
"""

from __future__ import annotations

import time
from collections import defaultdict


class Timer:
    """Adds up the seconds of each phase by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to a phase."""
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now
