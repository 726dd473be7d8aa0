"""Lets torch's threads sleep while they wait for each other, on a machine that others use too.

OpenMP's threads spin at the end of each operation until all have arrived. Where another process holds the processor of the last
one, they spin away the very time that it needs.
"""

from __future__ import annotations

import os

#: libgomp's turns before a thread sleeps, some ten microseconds; its own default is milliseconds.
_TURNS = "1000"


def share_processors() -> None:
    """Set `GOMP_SPINCOUNT`, unless the user has, if half of the processors are busy. Call it before torch is imported."""
    try:
        load = os.getloadavg()[0]
    except OSError:  # the system does not say
        return
    if load > (os.cpu_count() or 1) / 2 and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
