"""An objective whose advantages an informed teacher weights per token."""

from __future__ import annotations

import rosd_kit as rk

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package. They need torch, so they are imported here and not when a command starts."""
    from rosd_kit_rlsd.objective import RLSD

    return [RLSD]
