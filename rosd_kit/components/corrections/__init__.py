"""Importance weights for the gap between the policy that sampled and the one that is trained."""

from __future__ import annotations

from rosd_kit.components.corrections.none import NoCorrection
from rosd_kit.components.corrections.truncated import Truncated

COMPONENTS = (NoCorrection, Truncated)
