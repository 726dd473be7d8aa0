"""Calls plugins' hooks so that a hook that fails, or changes the process, costs nothing but a message."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rosd_kit.errors import is_users_interrupt
from rosd_kit.plugins.report import PluginReport, reason_of

if TYPE_CHECKING:
    import pluggy

_log = logging.getLogger(__name__)


class HookCaller:
    """Calls the hooks of plugins, whose reports are by name, and complains about each hook of a plugin once."""

    def __init__(self, reports: Mapping[str, PluginReport]) -> None:
        self._reports = reports
        self._complained: set[tuple[str, str]] = set()

    def call(self, impl: pluggy.HookImpl, facts: Mapping[str, object]) -> str:
        """Call one plugin's hook; return a message if it raised, else an empty string."""
        try:
            changed = self._watched(impl, facts)
        except BaseException as error:
            if is_users_interrupt(error):
                raise
            hook = impl.function.__name__
            message = f"plugin {self._reports[impl.plugin_name]}: {hook} raised {reason_of(error)}"
            if (impl.plugin_name, hook) not in self._complained:
                self._complained.add((impl.plugin_name, hook))
                _log.warning(message)
            return message
        plugin, hook = self._reports[impl.plugin_name], impl.function.__name__
        new = {one: (impl.plugin_name, f"{hook} {one.partition(' (')[0]}") for one in changed}
        reported = [one for one, key in new.items() if key not in self._complained]
        self._complained.update(new.values())
        return f"plugin {plugin}: {hook} changed {', '.join(reported)}; it was put back" if reported else ""

    def _watched(self, impl: pluggy.HookImpl, facts: Mapping[str, object]) -> list[str]:
        """Call one plugin's hook; put back and return what it changed of the process."""
        arguments = [facts[argument] for argument in impl.argnames]
        if "app" in facts or self._reports[impl.plugin_name].distribution == "rosd-kit":
            impl.function(*arguments)
            return []
        from rosd_kit.faults.surroundings import Surroundings

        before = Surroundings.now()
        try:
            impl.function(*arguments)
        finally:
            changed = before.put_back()
        return changed
