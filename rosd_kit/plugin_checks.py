"""What must be right about a plugin before it may take part: its hooks, their arguments and its API version.

Everything that pluggy would let pass silently is an error here. It knows nothing of how plugins are found.
"""

from __future__ import annotations

from typing import Any

import pluggy

import rosd_kit
from rosd_kit import hookspecs
from rosd_kit.errors import PluginError, did_you_mean

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("rosd_kit_"))


def new_pluggy() -> pluggy.PluginManager:
    """Return a manager that knows the hooks and has no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def examine(name: str, plugin: Any) -> tuple[str, ...]:
    """Return the hooks that a plugin implements; raises `PluginError` when it is not fit to be registered.

    It is tried with a manager of its own, because pluggy keeps a plugin that it refused.
    """
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
    _check_version(getattr(plugin, "rosd_kit_api", None))
    return hooks


def _unmarked(plugin: Any, hooks: tuple[str, ...]) -> list[str]:
    """Return the functions that look like hooks and would never be called."""
    return [
        name for name in dir(plugin) if name.startswith("rosd_kit_") and name not in hooks and callable(getattr(plugin, name))
    ]


def _check_version(written_for: Any) -> None:
    if written_for is not None and written_for != rosd_kit.API_VERSION:
        newer = isinstance(written_for, int) and written_for > rosd_kit.API_VERSION
        remedy = "upgrade rosd-kit" if newer else "install a newer version of the plugin"
        raise PluginError(f"it was written for rosd_kit_api {written_for}, and this is {rosd_kit.API_VERSION}; {remedy}")
