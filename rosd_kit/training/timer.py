"""How long the parts of a step take, by the host's clock.

On a GPU, work is queued and a part seems as long as it takes to queue it; the next part that waits for a result seems
longer. Waiting after each part would slow the step down.
"""

from __future__ import annotations

import time
from collections import defaultdict


class Clock:
    """Adds up laps by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap as this one's."""
        now = time.perf_counter()
        self.seconds[name] += now - self._since
        self._since = now
