"""Validates a plugin before it is registered: its hooks, their arguments, its API version.

What pluggy would silently accept is an error here. It does not know how plugins are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import pluggy

from rosd_kit import renames, version
from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugins import deprecations, hookspecs

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("rosd_kit_"))


def new_pluggy() -> pluggy.PluginManager:
    """Return a pluggy manager with the hook specifications and no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


@dataclass(frozen=True)
class Findings:
    """The hooks that a plugin implements, and notes for its author."""

    hooks: tuple[str, ...]
    notes: tuple[str, ...]


def examine(name: str, plugin: object) -> Findings:
    """Examine a plugin. Raises `PluginError` if it cannot be registered.

    It is registered with a separate manager first, because pluggy keeps plugins that it refused.
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


def _unmarked(plugin: object, hooks: tuple[str, ...]) -> list[str]:
    """Return functions that are named like hooks but not marked, so that they would never be called."""
    return [
        name for name in dir(plugin) if name.startswith("rosd_kit_") and name not in hooks and callable(getattr(plugin, name))
    ]


def _check_version(written_for: object) -> tuple[str, ...]:
    """Return notes on the API version. Raises `PluginError` for a version that is not supported."""
    if written_for is None:
        return ()
    current = version.API_VERSION
    if not isinstance(written_for, int) or isinstance(written_for, bool):
        raise PluginError(f"rosd_kit_api is {written_for!r}; it must be a whole number, for example {current}")
    if not renames.OLDEST_API <= written_for <= current:
        remedy = "upgrade rosd-kit" if written_for > current else "install a newer version of the plugin"
        raise PluginError(f"it was written for rosd_kit_api {written_for}, and this is {current}; {remedy}")
    return deprecations.version_note(written_for, current)
