"""Discovers plugins, installed ones and files, and isolates broken ones.

A plugin that cannot be used is reported with its distribution, version, file and reason, and left out; the others still work.
This module knows neither recipes nor what components do, and imports torch only when components are needed.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugins import hookspecs
from rosd_kit.plugins.deprecations import adapt_component
from rosd_kit.plugins.observers import HookCaller
from rosd_kit.plugins.report import PluginReport, Status, reason_of
from rosd_kit.plugins.sources import distribution_of, file_of, file_of_entry, import_file, load_default, module_name
from rosd_kit.plugins.timed_import import SLOW, timed
from rosd_kit.plugins.validation import examine, new_pluggy
from rosd_kit.version import __version__

if TYPE_CHECKING:
    import typer

    from rosd_kit.plugins.registry import Registry

VARIABLE = "ROSD_KIT_PLUGINS"
_BUILT_IN = "builtin"
#: The plugins that ship with the kit, named as entry points are: a module, or a class to make one of.
_DEFAULT_PLUGINS = {_BUILT_IN: "rosd_kit.components", "trackers": "rosd_kit.run.trackers:Trackers"}
#: The commands that take `--plugin` after their name.
_COMMAND = re.compile(
    r"\brosd-kit (?:run|eval|show|diff|components|schema|doctor|sweep(?! report)|plugins(?! (?:check|new)))\b"
)


class PluginManager:
    """Every plugin of this process, the built-in one first.

    Entry points of the group `rosd_kit` are loaded unless the environment variable `ROSD_KIT_PLUGINS` says otherwise: `-name`
    leaves one out, `name,name` loads only these, `builtin` alone loads none. A name is a plugin's or its distribution's.
    `selection` replaces the variable. Files can be added until components are loaded.
    """

    def __init__(self, files: Sequence[Path] = (), selection: str | None = None) -> None:
        self._pluggy = new_pluggy()
        self._reports: dict[str, PluginReport] = {}
        self._hooks = HookCaller(self._reports)
        for name, place in _DEFAULT_PLUGINS.items():
            self._add(name, "rosd-kit", __version__, partial(load_default, place))
        self._discover(os.environ.get(VARIABLE, "") if selection is None else selection)
        for file in files:
            self.load_file(file)

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """A report on every plugin, in the order of discovery."""
        return tuple(self._reports.values())

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """The plugins that cannot be used."""
        return tuple(report for report in self.reports if report.status == "broken")

    @property
    def denied(self) -> tuple[PluginReport, ...]:
        """The plugins that the environment leaves out."""
        return tuple(report for report in self.reports if report.status == "denied")

    def load_file(self, file: Path) -> str:
        """Add the plugin in a Python file and return its name. Raises `PluginError` only if there is no such file."""
        assert "registry" not in self.__dict__, "plugin files are loaded before components are asked for"
        path = file.expanduser().resolve()
        if not path.is_file():
            raise PluginError(f"--plugin: no file {str(file)!r}. Give the path of a Python file.")
        name = module_name(path)
        if name not in self._reports:
            self._add(name, "file", "-", lambda: import_file(name, path), file=str(file))
        return name

    def hint(self, text: str) -> str:
        """Return a text in which every rosd-kit command that takes `--plugin` names the plugin files of this process.

        They follow the command's name: where a command ends in a sentence, only its reader knows.
        """
        files = [report.file for report in self.reports if report.distribution == "file"]
        if not files or "--plugin" in text:
            return text
        flags = "".join(f" --plugin {shlex.quote(file)}" for file in files)
        return _COMMAND.sub(lambda match: match[0] + flags, text)

    def load_module(self, name: str, module: str, distribution: str) -> None:
        """Add a plugin as its entry point would, for a package that is not installed."""
        assert "registry" not in self.__dict__, "plugins are loaded before components are asked for"
        point = EntryPoint(name=name, value=module, group=hookspecs.PROJECT)
        for loaded in [each for each in sys.modules if f"{each}.".startswith(f"{point.module.partition('.')[0]}.")]:
            del sys.modules[loaded]  # another copy of it may be installed, and imported from there
        self._reports.pop(name, None)
        if self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)
        self._add(name, distribution, "-", point.load, file=file_of_entry(point))

    def load_object(self, name: str, plugin: object) -> None:
        """Add a plugin that is there already: a module, or an object with hook implementations."""
        assert "registry" not in self.__dict__, "plugins are loaded before components are asked for"
        self._add(name, "python", "-", lambda: plugin)

    @cached_property
    def registry(self) -> Registry:
        """Return all components; the first call imports them and settles which plugins are broken."""
        from rosd_kit.plugins.registry import Origin, Registry

        registry = Registry()
        for name in [report.name for report in self.reports if report.status == "ok"]:
            report, plugin = self._reports[name], self._pluggy.get_plugin(name)
            origin = Origin(plugin=name, distribution=report.distribution, version=report.version, file=report.file)
            try:
                (found, notes), seconds = timed(lambda plugin=plugin: self._components_of(plugin))  # type: ignore[misc]
                brings = registry.add(found, origin)
            except (Exception, SystemExit) as error:
                if name == _BUILT_IN:
                    raise
                self._break(name, error)
            else:
                taken = seconds + report.seconds
                self._reports[name] = replace(report, brings=brings, notes=(*report.notes, *notes), seconds=taken)
        registry.broken.update({str(report): report.reason for report in (*self.broken, *self.denied)})
        return registry

    def load_components(self) -> None:
        """Import every plugin's components, once; from then on `broken`, `slow` and `reports` are complete."""
        _ = self.registry

    @property
    def slow(self) -> tuple[PluginReport, ...]:
        """The plugins that took long to import, slowest first."""
        found = [report for report in self.reports if report.seconds >= SLOW and report.distribution != "rosd-kit"]
        return tuple(sorted(found, key=lambda report: -report.seconds))

    def add_commands(self, app: typer.Typer) -> None:
        """Let every plugin add its commands; a plugin that raises or uses a taken name is reported and left out."""
        for impl in self._pluggy.hook.rosd_kit_commands.get_hookimpls():
            before = list(app.registered_commands), list(app.registered_groups)
            self._hooks.call(impl, {"app": app})
            if twice := sorted(name for name, count in Counter(_command_names(app)).items() if count > 1):
                app.registered_commands, app.registered_groups = before
                self._break(impl.plugin_name, PluginError(f"there is a command {', '.join(twice)} already"))

    def notify(self, hook: str, **facts: object) -> tuple[str, ...]:
        """Call an observer hook of every plugin; return one message per plugin that raised, and log it once."""
        messages = (self._hooks.call(impl, facts) for impl in getattr(self._pluggy.hook, hook).get_hookimpls())
        return tuple(message for message in messages if message)

    def _discover(self, selection: str) -> None:
        """Add the installed plugins that the selection allows; report selected ones that do not exist."""
        words = [word.strip() for word in selection.split(",") if word.strip()]
        denied = {_plain(word[1:]): word for word in words if word.startswith("-")}
        allowed = {_plain(word): word for word in words if not word.startswith("-")}
        found = {*_DEFAULT_PLUGINS}
        for point in sorted(entry_points(group=hookspecs.PROJECT), key=lambda point: point.name):
            distribution, version = distribution_of(point)
            aliases = {_plain(point.name), _plain(distribution)}
            found |= aliases
            if aliases & denied.keys() or (allowed and not aliases & allowed.keys()):
                self._report(point.name, distribution, version, point.value, "denied", f"left out by {VARIABLE}={selection}")
            else:
                self._add(point.name, distribution, version, point.load, file=file_of_entry(point))
        if _BUILT_IN in denied:
            raise PluginError(f"{VARIABLE}: 'builtin' cannot be left out; rosd-kit does not work without it. Remove -builtin.")
        if "trackers" in denied:
            self._pluggy.unregister(name="trackers")
            self._reports["trackers"] = replace(
                self._reports["trackers"], status="denied", reason=f"left out by {VARIABLE}={selection}"
            )
        for plain in sorted((denied.keys() | allowed.keys()) - found):
            word = allowed.get(plain) or denied[plain][1:]
            reason = f"{VARIABLE} names it, but no installed plugin has this name.{did_you_mean(plain, found)}"
            self._report(word, "-", "-", "-", "broken", reason)

    def _add(self, name: str, distribution: str, version: str, load: Callable[[], object], *, file: str | None = None) -> None:
        """Import, examine and register one plugin; any failure becomes its report."""
        if name in self._reports:
            reason = f"the name {name!r} is already taken by {self._reports[name]}"
            self._report(f"{name}@{distribution}", distribution, version, file or "-", "broken", reason)
            return
        seconds = 0.0
        try:
            if distribution == "rosd-kit":
                plugin = load()
            else:
                import_module("rosd_kit.contracts")  # nearly every plugin needs torch, through it; not counted as their time
                plugin, seconds = timed(load)
            findings = examine(name, plugin)
        except (Exception, SystemExit) as error:
            self._report(name, distribution, version, file or "-", "broken", reason_of(error))
            return
        self._pluggy.register(plugin, name)
        self._report(name, distribution, version, file or file_of(plugin))
        self._reports[name] = replace(self._reports[name], hooks=findings.hooks, notes=findings.notes, seconds=seconds)

    def _report(self, name: str, distribution: str, version: str, file: str, status: Status = "ok", reason: str = "") -> None:
        self._reports[name] = PluginReport(
            name=name, distribution=distribution, version=version, file=file, status=status, reason=reason
        )

    def _components_of(self, plugin: object) -> tuple[list[object], tuple[str, ...]]:
        """Return what a plugin offers as classes, and notes on those that use outdated names."""
        found: list[object] = []
        for impl in self._pluggy.hook.rosd_kit_components.get_hookimpls():
            if impl.plugin is plugin:
                returned = impl.function()
                if not isinstance(returned, Iterable) or isinstance(returned, str):
                    raise PluginError(f"rosd_kit_components returned {returned!r}; it must return a list of classes")
                found.extend(returned)
        return found, tuple(note for cls in found if isinstance(cls, type) for note in adapt_component(cls))

    def _break(self, name: str, error: BaseException) -> None:
        self._pluggy.unregister(name=name)
        self._reports[name] = replace(self._reports[name], status="broken", reason=reason_of(error))


def _plain(name: str) -> str:
    """Normalise a name as package indexes do: `rosd_kit-X` is `rosd-kit-x`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _command_names(app: typer.Typer) -> Iterable[str]:
    from typer.main import get_command_name

    for command in app.registered_commands:
        yield command.name or (get_command_name(command.callback.__name__) if command.callback else "")
    for group in app.registered_groups:
        yield str(group.name)
