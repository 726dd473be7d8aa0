"""The registry of components: maps slot and name to a class, and knows which plugin brought it.

It neither imports plugins nor builds components. The class of a listed component is imported when it is first asked for.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from rosd_kit.contracts import SLOTS, Component
from rosd_kit.errors import PluginError, RecipeError, did_you_mean
from rosd_kit.options import Config
from rosd_kit.plugins.listed import ListedComponent

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED_OPTIONS = frozenset({"name", "weight"})


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a component comes from: plugin, distribution, version and file."""

    plugin: str
    distribution: str
    version: str
    file: str

    def __str__(self) -> str:
        if self.distribution == "file":
            return self.file
        version = "" if self.version == "-" else f" {self.version},"
        return f"{self.plugin} ({self.distribution}{version} {self.file})"


@dataclass(frozen=True)
class Entry:
    """A registered component and its origin."""

    component: type[Component] | ListedComponent
    origin: Origin

    @property
    def cls(self) -> type[Component]:
        """The class, imported if it is only listed so far."""
        return self.component.load() if isinstance(self.component, ListedComponent) else self.component

    @property
    def summary(self) -> str:
        """The first sentence of the docstring; a listed component is not imported for it."""
        return self.component.summary if isinstance(self.component, ListedComponent) else summary_of(self.component)


@dataclass
class Registry:
    """All components by slot and name.

    `broken` maps each plugin that was left out to the reason; errors about unknown names mention them.
    """

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in SLOTS})
    broken: dict[str, str] = field(default_factory=dict)

    def add(self, classes: Iterable[object], origin: Origin) -> tuple[str, ...]:
        """Register all classes of one plugin and return their `kind name`; if one is bad, register none and raise
        `PluginError`."""
        new: dict[tuple[str, str], Entry] = {}
        for cls in classes:
            if not isinstance(cls, ListedComponent):
                if fault := fault_of(cls):
                    raise PluginError(fault)
                assert isinstance(cls, type) and issubclass(cls, Component)
            key = (cls.kind, cls.name)
            if taken := self.entries[cls.kind].get(cls.name) or new.get(key):
                name = getattr(cls, "__qualname__", cls.name)
                raise PluginError(f"{cls.kind} {cls.name!r} is taken by {taken.origin}; give {name} another name")
            new[key] = Entry(cls, origin)
        for (kind, name), entry in new.items():
            self.entries[kind][name] = entry
        return tuple(f"{kind} {name}" for kind, name in new)

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names registered for a slot, sorted. Raises `RecipeError` for an unknown slot."""
        if kind not in self.entries:
            raise RecipeError(f"{kind!r} is not a slot.{did_you_mean(kind, self.entries)} Slots: {', '.join(self.entries)}")
        return tuple(sorted(self.entries[kind]))

    def entry(self, kind: str, name: str) -> Entry:
        """Return the entry of `kind: name`. Raises `RecipeError` that suggests the nearest name."""
        known = self.names(kind)
        if name not in self.entries[kind]:
            raise RecipeError(
                f"{kind}: unknown {name!r}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}. "
                f"See: rosd-kit components {kind}{self._broken_note()}"
            )
        return self.entries[kind][name]

    def get(self, kind: str, name: str) -> type[Component]:
        """Return the component class of `kind: name`. Raises `RecipeError` if there is none."""
        return self.entry(kind, name).cls

    def providers(self, capability: str) -> list[str]:
        """Return every `kind name` that provides a capability."""
        return [
            f"{kind} {name}"
            for kind, entries in self.entries.items()
            for name, entry in sorted(entries.items())
            if capability in entry.cls.provides
        ]

    def with_option(self, kind: str, option: str) -> list[str]:
        """Return the names of a slot's components that have an option, to suggest them where another has not."""
        return [name for name, entry in self.entries[kind].items() if option in entry.cls.Config.model_fields]

    def _broken_note(self) -> str:
        if not self.broken:
            return ""
        return "\nPlugins that could not be used:" + "".join(f"\n  {who}: {reason}" for who, reason in self.broken.items())


def fault_of(cls: object) -> str | None:
    """Return why a value cannot be registered as a component, or None if it can."""
    if not (isinstance(cls, type) and issubclass(cls, Component)):
        return f"rosd_kit_components returned {cls!r}, which is not a component class; return classes, not instances"
    where = cls.__qualname__
    kind = getattr(cls, "kind", None)
    if kind not in SLOTS or not issubclass(cls, SLOTS[kind]):
        return f"{where} belongs to no slot; derive it from {', '.join(base.__name__ for base in SLOTS.values())}"
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        return f"{where} does not implement {', '.join(missing)} of {SLOTS[kind].__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{where}.name is {name!r}; it must be lower-case letters, digits and underscores, for example 'after_keyword'"
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, Config)):
        return f"{where}.Config must derive from rosd_kit.Config"
    if reserved := sorted(_RESERVED_OPTIONS & cls.Config.model_fields.keys()):
        return f"{where}.Config has an option {reserved[0]!r}, which recipes reserve; rename it"
    return None


def summary_of(cls: type[Component]) -> str:
    """Return the first sentence of a component's docstring."""
    text = inspect.cleandoc(cls.__doc__ or "No description.").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
