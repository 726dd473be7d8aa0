"""Discovery and isolation of plugins: what is installed, what `--plugin` names, and what is wrong with any of it.

A plugin that cannot be used is reported with its distribution, version, file and reason, and left out; others go on.
This module knows neither recipes nor what components do, and loads torch only when components are asked for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import rosd_kit
from rosd_kit import components, hookspecs
from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugin_checks import examine, new_pluggy

if TYPE_CHECKING:
    import pluggy
    import typer

    from rosd_kit.registry import Registry

VARIABLE = "ROSD_KIT_PLUGINS"
Status = Literal["ok", "denied", "broken"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PluginReport:
    """One plugin: where it came from, what it brings, and whether it could be used.

    `brings` lists its `kind name` pairs, known once components were asked for; `reason` says why a plugin was left out.
    """

    name: str
    distribution: str
    version: str
    file: str
    status: Status = "ok"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version}, {self.file})"


class PluginManager:
    """Every plugin of this process, the built-in one first.

    Entry points of the group `rosd_kit` are taken unless the environment variable `ROSD_KIT_PLUGINS` says otherwise:
    `-name` leaves one out, `name,name` takes only these; `selection` replaces the variable. Files can be added until
    components are first asked for.
    """

    def __init__(self, files: Sequence[Path] = (), selection: str | None = None) -> None:
        self._pluggy = new_pluggy()
        self._reports: dict[str, PluginReport] = {}
        self._complained: set[tuple[str, str]] = set()
        self._add("builtin", "rosd-kit", rosd_kit.__version__, lambda: components)
        self._discover(os.environ.get(VARIABLE, "") if selection is None else selection)
        for file in files:
            self.load_file(file)

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """Return what is known of every plugin, in the order of discovery."""
        return tuple(self._reports.values())

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """Return the plugins that could not be used."""
        return tuple(report for report in self.reports if report.status == "broken")

    def load_file(self, file: Path) -> None:
        """Add the plugin in one Python file; raises `PluginError` only when there is no such file."""
        assert "registry" not in self.__dict__, "plugin files are loaded before components are asked for"
        path = file.expanduser().resolve()
        if not path.is_file():
            raise PluginError(f"--plugin: no file {str(file)!r}. Give the path of a Python file.")
        name = _module_name(path)
        if name not in self._reports:
            self._add(name, "file", "-", lambda: _import_file(name, path), file=str(file))

    @cached_property
    def registry(self) -> Registry:
        """Return all components; the first call imports them and settles which plugins are broken."""
        from rosd_kit.registry import Origin, Registry

        registry = Registry()
        for name in [report.name for report in self.reports if report.status == "ok"]:
            report, plugin = self._reports[name], self._pluggy.get_plugin(name)
            origin = Origin(plugin=name, distribution=report.distribution, version=report.version, file=report.file)
            try:
                brings = registry.add(self._components_of(plugin), origin)
            except (Exception, SystemExit) as error:
                if name == "builtin":
                    raise
                self._break(name, error)
            else:
                self._reports[name] = replace(report, brings=brings)
        registry.broken.update({str(report): report.reason for report in self.broken})
        return registry

    def add_commands(self, app: typer.Typer) -> None:
        """Let every plugin add its commands; one that raises or takes a name that is taken is reported and left out."""
        for impl in self._pluggy.hook.rosd_kit_commands.get_hookimpls():
            before = list(app.registered_commands), list(app.registered_groups)
            self._call(impl, {"app": app})
            if twice := sorted(name for name, count in Counter(_command_names(app)).items() if count > 1):
                app.registered_commands, app.registered_groups = before
                self._break(impl.plugin_name, PluginError(f"there is a command {', '.join(twice)} already"))

    def notify(self, hook: str, **facts: Any) -> tuple[str, ...]:
        """Call an observer hook of every plugin; returns one message for each that raised, and logs it once."""
        told = (self._call(impl, facts) for impl in getattr(self._pluggy.hook, hook).get_hookimpls())
        return tuple(message for message in told if message)

    def _call(self, impl: pluggy.HookImpl, facts: Mapping[str, Any]) -> str:
        """Call one plugin's hook and return what it raised in words, or nothing."""
        try:
            impl.function(*(facts[argument] for argument in impl.argnames))
        except (Exception, SystemExit) as error:
            hook = impl.function.__name__
            message = f"plugin {self._reports[impl.plugin_name]}: {hook} raised {_say(error)}"
            if (impl.plugin_name, hook) not in self._complained:
                self._complained.add((impl.plugin_name, hook))
                _log.warning(message)
            return message
        return ""

    def _discover(self, selection: str) -> None:
        """Add the installed plugins that the selection lets through; name selected ones that do not exist."""
        words = [word.strip() for word in selection.split(",") if word.strip()]
        denied = {word[1:] for word in words if word.startswith("-")}
        allowed = {word for word in words if not word.startswith("-")}
        found = set()
        for point in sorted(entry_points(group=hookspecs.PROJECT), key=lambda point: point.name):
            distribution, version = _distribution_of(point)
            aliases = {point.name, distribution}
            found |= aliases
            if aliases & denied or (allowed and not aliases & allowed):
                self._report(point.name, distribution, version, point.value, "denied", f"left out by {VARIABLE}")
            else:
                self._add(point.name, distribution, version, point.load, file=_file_of_entry(point))
        for word in sorted((denied | allowed) - found - {"builtin"}):
            reason = f"{VARIABLE} names it, but no installed plugin has this name.{did_you_mean(word, found)}"
            self._report(word, "-", "-", "-", "broken", reason)

    def _add(self, name: str, distribution: str, version: str, load: Callable[[], Any], *, file: str | None = None) -> None:
        """Import, examine and register one plugin; whatever goes wrong becomes its report."""
        if name in self._reports:
            reason = f"the name {name!r} is already taken by {self._reports[name]}"
            self._report(f"{name}@{distribution}", distribution, version, file or "-", "broken", reason)
            return
        try:
            plugin = load()
            hooks = examine(name, plugin)
        except (Exception, SystemExit) as error:
            self._report(name, distribution, version, file or "-", "broken", _say(error))
            return
        self._pluggy.register(plugin, name)
        self._report(name, distribution, version, file or _file_of(plugin), hooks=hooks)

    def _report(
        self,
        name: str,
        distribution: str,
        version: str,
        file: str,
        status: Status = "ok",
        reason: str = "",
        hooks: tuple[str, ...] = (),
    ) -> None:
        self._reports[name] = PluginReport(
            name=name, distribution=distribution, version=version, file=file, status=status, reason=reason, hooks=hooks
        )

    def _components_of(self, plugin: Any) -> list[Any]:
        found: list[Any] = []
        for impl in self._pluggy.hook.rosd_kit_components.get_hookimpls():
            if impl.plugin is plugin:
                returned = impl.function()
                if not isinstance(returned, Iterable) or isinstance(returned, str):
                    raise PluginError(f"rosd_kit_components returned {returned!r}; it must return a list of classes")
                found.extend(returned)
        return found

    def _break(self, name: str, error: BaseException) -> None:
        self._pluggy.unregister(name=name)
        self._reports[name] = replace(self._reports[name], status="broken", reason=_say(error))


def _module_name(path: Path) -> str:
    """Return a module name that tells files of the same name in different folders apart."""
    return f"{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=3).hexdigest()}"


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _distribution_of(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "-")


def _file_of_entry(point: EntryPoint) -> str:
    """Return the file of an entry point's module, or the entry point's own words where there is none."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (Exception, SystemExit):  # a parent package is imported on the way
        spec = None
    return spec.origin if spec and spec.origin else point.value


def _file_of(plugin: Any) -> str:
    try:
        return inspect.getfile(plugin if isinstance(plugin, ModuleType | type) else type(plugin))
    except (TypeError, OSError):
        return "-"


def _command_names(app: typer.Typer) -> Iterable[str]:
    from typer.main import get_command_name

    for command in app.registered_commands:
        yield command.name or (get_command_name(command.callback.__name__) if command.callback else "")
    for group in app.registered_groups:
        yield str(group.name)


def _say(error: BaseException) -> str:
    """Return an exception in one line; its type is named unless it is our own."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"
