"""Components that a Python caller hands over as objects instead of naming them in the recipe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rosd_kit.contracts import SLOTS, Component, Objective
from rosd_kit.errors import RecipeError, RunError, did_you_mean
from rosd_kit.files import read_json_object
from rosd_kit.plugins.registry import Origin, Registry
from rosd_kit.recipe.ambiguous import UnambiguousDumper


@dataclass(frozen=True)
class GivenComponents:
    """One object per slot. The recipe records each by its class's name and its options; the objects themselves do the work."""

    by_slot: Mapping[str, Component] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot, component in self.by_slot.items():
            if slot not in SLOTS:
                raise RecipeError(f"components: {slot!r} is not a slot.{did_you_mean(slot, SLOTS)} Slots: {', '.join(SLOTS)}")
            if not isinstance(component, SLOTS[slot]):
                raise RecipeError(
                    f"components: {slot} is {component!r}; it must be an instance of rosd_kit.{SLOTS[slot].__name__}, "
                    "not a class or a name. Name registered components with overrides instead."
                )

    @property
    def classes(self) -> dict[str, str]:
        """The class of each object, by slot, as the run's record names it."""
        return {slot: f"{type(one).__module__}.{type(one).__qualname__}" for slot, one in self.by_slot.items()}

    def register(self, registry: Registry) -> None:
        """Let recipes name the objects' classes. Raises `PluginError` where another class has the same name."""
        for slot, component in self.by_slot.items():
            entry = registry.entries[slot].get(component.name)
            if entry is None or entry.cls is not type(component):
                registry.add([type(component)], python_origin(type(component)))

    def overrides(self) -> list[str]:
        """Return the `slot=value` changes that make a recipe name these objects with their options."""
        return [f"{slot}={flow(_recorded(component))}" for slot, component in self.by_slot.items()]

    def check_resumed(self, folder: Path) -> None:
        """Raise `RunError` unless these are objects of the classes that the run in `folder` was given."""
        needed = recorded_classes(folder)
        missing = {slot: name for slot, name in needed.items() if self.classes.get(slot) != name}
        if missing:
            listed = ", ".join(f"{slot} ({name})" for slot, name in missing.items())
            raise RunError(
                f"{folder}: this run was given objects for {listed}, which its folder cannot hold. Resume it from Python with "
                f"the same objects: rosd_kit.train(resume={str(folder)!r}, components={{...}})"
            )


def python_origin(cls: type) -> Origin:
    """Return where a class comes from that was handed over by a Python caller."""
    try:
        file = inspect.getfile(cls)
    except (TypeError, OSError):  # typed into a notebook or a prompt
        file = "-"
    return Origin(plugin="python", distribution="python", version="-", file=file)


def recorded_classes(folder: Path) -> dict[str, str]:
    """Return the classes of the objects that a run was given, by slot; nothing where its record cannot be read."""
    given = read_json_object(folder / "environment.json").get("given_components")
    return {slot: str(name) for slot, name in given.items()} if isinstance(given, dict) else {}


def _recorded(component: Component) -> object:
    written = {"name": component.name, **component.config.model_dump(mode="json")}
    return [written] if isinstance(component, Objective) else written


def flow(value: object) -> str:
    """Return a value as YAML on one line, as overrides are written."""
    text: str = yaml.dump(value, Dumper=UnambiguousDumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip().removesuffix("\n...")
