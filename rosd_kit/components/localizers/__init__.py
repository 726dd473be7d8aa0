"""Localizers: choose the response tokens that carry the distillation signal."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
