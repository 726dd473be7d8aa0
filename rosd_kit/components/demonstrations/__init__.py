"""Demonstrations: choose the privileged text for each rollout."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
