"""Several reflections on one rollout, and the step that most of them call the first error.

One part asks, the other counts; each also works with other parts in the other's place.
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_process_localizer.panel import Panel
from rosd_kit_process_localizer.vote import Vote

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [Panel, Vote]
