"""Reflections by another model, behind any endpoint for OpenAI's chat completions.

Answers are parsed like the tutor's; a failed request becomes the status of the reflection.
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_external_reflector.reflector import External

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [External]
