"""Reflectors: find a rollout's first error and say how to do it right."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
