"""Corrections: importance weights for the gap between the sampling policy and the trained policy."""

from __future__ import annotations

from rosd_kit.components.corrections.none import NoCorrection
from rosd_kit.components.corrections.truncated import Truncated

COMPONENTS = (NoCorrection, Truncated)
