"""Rollout engines, which sample completions. Each file is one engine; `transformers` decodes with `rosd_kit.decoding`."""

from rosd_kit.components.on_use import names_on_use

__getattr__ = names_on_use(__name__)
