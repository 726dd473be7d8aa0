"""Adapts plugins that were written for an older plugin API: gives their hooks and methods the current names.

The tables of renamed things are in `rosd_kit/renames/`. A plugin says which version it was written for as `rosd_kit_api`;
versions from `renames.OLDEST_API` on are accepted.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Sequence

from rosd_kit import renames


def adapt_hooks(plugin: object) -> tuple[str, ...]:
    """Give a plugin's hooks with old names their new ones; return one sentence for each."""
    messages = []
    for renamed in renames.HOOKS.values():
        if hasattr(plugin, renamed.old) and not hasattr(plugin, renamed.new):
            setattr(plugin, renamed.new, getattr(plugin, renamed.old))
            delattr(plugin if renamed.old in vars(plugin) else type(plugin), renamed.old)
            messages.append(f"hook {renamed}")
    return _warned(messages)


def adapt_component(cls: type) -> tuple[str, ...]:
    """Give a component class the methods that it has under old names; return one sentence for each."""
    messages = []
    for renamed in renames.METHODS.get(getattr(cls, "kind", ""), {}).values():
        if renamed.old in vars(cls) and renamed.new not in vars(cls):
            setattr(cls, renamed.new, vars(cls)[renamed.old])
            messages.append(f"{cls.__name__}.{renamed}")
    if messages:
        abc.update_abstractmethods(cls)
    return _warned(messages)


def version_note(written_for: int, current: int) -> tuple[str, ...]:
    """Return the note on a plugin that was written for an older version that is still accepted."""
    if written_for >= current:
        return ()
    return (f"it was written for rosd_kit_api {written_for}, and this is {current}; that one is still taken",)


def _warned(messages: Sequence[str]) -> tuple[str, ...]:
    for text in messages:  # no RenamedWarning, which the command line would show besides the plugin's notes
        warnings.warn(text, DeprecationWarning, stacklevel=3)
    return tuple(messages)
