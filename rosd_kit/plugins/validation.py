"""What must be right about a plugin before it may take part: its hooks, their arguments and its API version.

Everything that pluggy would let pass silently is an error here. It knows nothing of how plugins are found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pluggy

from rosd_kit import renames, version
from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugins import deprecations, hookspecs

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("rosd_kit_"))


def new_pluggy() -> pluggy.PluginManager:
    """Return a manager that knows the hooks and has no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


@dataclass(frozen=True)
class Findings:
    """The hooks that a plugin implements, and what is to be told of one that is fit all the same."""

    hooks: tuple[str, ...]
    notes: tuple[str, ...]


def examine(name: str, plugin: Any) -> Findings:
    """Look at a plugin; raises `PluginError` when it is not fit to be registered.

    It is tried with a manager of its own, because pluggy keeps a plugin that it refused.
    """
    notes = _check_version(getattr(plugin, "rosd_kit_api", None)) + deprecations.adapt_hooks(plugin)
    trial = new_pluggy()
    try:
        trial.register(plugin, name)
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    hooks = tuple(sorted(caller.name for caller in trial.get_hookcallers(plugin) or ()))
    for hook in (*hooks, *_unmarked(plugin, hooks)):
        if hook not in HOOKS:
            raise PluginError(f"there is no hook {hook!r}.{did_you_mean(hook, HOOKS)} Hooks: {', '.join(HOOKS)}")
        if hook not in hooks:
            raise PluginError(f"{hook} is not marked; write @rosd_kit.hookimpl above it")
    if not hooks:
        raise PluginError(f"it implements no hook. Hooks: {', '.join(HOOKS)}")
    return Findings(hooks, notes)


def _unmarked(plugin: Any, hooks: tuple[str, ...]) -> list[str]:
    """Return the functions that look like hooks and would never be called."""
    return [
        name for name in dir(plugin) if name.startswith("rosd_kit_") and name not in hooks and callable(getattr(plugin, name))
    ]


def _check_version(written_for: Any) -> tuple[str, ...]:
    """Return what is to be told of the version; raises `PluginError` where it is not one that is still, or already, taken."""
    if written_for is None:
        return ()
    current = version.API_VERSION
    if not isinstance(written_for, int) or isinstance(written_for, bool):
        raise PluginError(f"rosd_kit_api is {written_for!r}; it must be a whole number, such as {current}")
    if not renames.OLDEST_API <= written_for <= current:
        remedy = "upgrade rosd-kit" if written_for > current else "install a newer version of the plugin"
        raise PluginError(f"it was written for rosd_kit_api {written_for}, and this is {current}; {remedy}")
    return deprecations.version_note(written_for, current)
