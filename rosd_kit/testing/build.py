"""Builds components from their classes for the checks; a required option takes the example that its author gave."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from pydantic.fields import FieldInfo

from rosd_kit.contracts import Component, Task
from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.build import build_component
from rosd_kit.recipe.model import ComponentChoice
from rosd_kit.testing.check import BENCH, Bench


def build(cls: type[Component], options: Mapping[str, object] | None = None, registry: Registry | None = None) -> Component:
    """Return a component with these options and otherwise the defaults; required options take their first `examples` entry.

    Components that are made of other components need the `registry`.

    Raises `PluginError` for an unknown or invalid option, and for a required one that has neither a value nor an example.
    """
    values, fields = dict(options or {}), cls.Config.model_fields
    if unknown := sorted(values.keys() - fields):
        hint = did_you_mean(unknown[0], fields)
        raise PluginError(f"{cls.kind} {cls.name!r} has no option {unknown[0]!r}.{hint} Options: {', '.join(fields) or 'none'}")
    for name, field in fields.items():
        if name not in values and field.is_required():
            values[name] = _example(cls, name, field)
    try:
        config = cls.Config.model_validate(values)
    except pydantic.ValidationError as error:
        raise PluginError(f"{cls.kind} {cls.name!r} cannot be built: {' '.join(str(error).split())}") from error
    if registry is None or cls.kind == "objective":
        return cls(config)
    return build_component(cls.kind, ComponentChoice(name=cls.name, options=config), registry)


def bench_for(cls: type[Component], registry: Registry) -> Bench:
    """Return a bench with a problem of the task that provides what the component needs, or else the general bench."""
    for need in sorted(cls.needs - {"solution", "group", "oracle"}):
        for provider in registry.providers(need):
            kind, name = provider.split()
            if kind == "task":
                task = build(registry.get(kind, name), registry=registry)
                assert isinstance(task, Task)
                return Bench(problem=task.train_batch(step=0, count=1, seed=0)[0])
    return BENCH


def _example(cls: type[Component], name: str, field: FieldInfo) -> object:
    if not field.examples:
        raise PluginError(
            f"{cls.kind} {cls.name!r}: option {name!r} is required. Append {cls.name}.{name}=... to the command, or give "
            f"the field an example, which recipe editors show too: pydantic.Field(examples=[...])"
        )
    return field.examples[0]
