"""Tasks: where problems come from."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
