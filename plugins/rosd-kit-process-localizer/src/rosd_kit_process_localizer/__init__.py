"""A reflector that makes several reflections on one rollout, and a localizer that finds the step most of them quote.

Each of the two also works with other components in the other's slot.
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_process_localizer.panel import Panel
from rosd_kit_process_localizer.vote import Vote

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [Panel, Vote]
