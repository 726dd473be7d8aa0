"""Reflections by another model, behind any endpoint that speaks OpenAI's chat completions.

The endpoint's answers are read as the tutor's own; whatever goes wrong on the way to it is a reflection's status.
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_external_reflector.reflector import External

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [External]
