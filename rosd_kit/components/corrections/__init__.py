"""Corrections: importance weights for the gap between the sampling policy and the trained policy."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
