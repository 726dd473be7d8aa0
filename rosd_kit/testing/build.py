"""Components to try, made from their classes alone: options that must be given take the example that the author wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.fields import FieldInfo

from rosd_kit.contracts import Component, Task
from rosd_kit.errors import PluginError, did_you_mean
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.build import build_component
from rosd_kit.recipe.model import ComponentChoice
from rosd_kit.testing.check import BENCH, Bench


def build(cls: type[Component], options: Mapping[str, Any] | None = None, registry: Registry | None = None) -> Component:
    """Return a component with these options, the defaults, and of the rest the first of each field's `examples`.

    The `registry` is for components that are made of others.

    Raises `PluginError` for an option that must be given and has no example, and for one that is not allowed.
    """
    given, known = dict(options or {}), cls.Config.model_fields
    if strangers := sorted(given.keys() - known):
        near = did_you_mean(strangers[0], known)
        raise PluginError(
            f"{cls.kind} {cls.name!r} has no option {strangers[0]!r}.{near} Options: {', '.join(known) or 'none'}"
        )
    for name, field in known.items():
        if name not in given and field.is_required():
            given[name] = _example(cls, name, field)
    try:
        config = cls.Config.model_validate(given)
    except pydantic.ValidationError as error:
        raise PluginError(f"{cls.kind} {cls.name!r} cannot be built: {' '.join(str(error).split())}") from error
    if registry is None or cls.kind == "objective":
        return cls(config)
    return build_component(cls.kind, ComponentChoice(name=cls.name, options=config), registry)


def bench_for(cls: type[Component], registry: Registry) -> Bench:
    """Return what to try a component with: a problem of the task that provides what it needs, where there is one."""
    for need in sorted(cls.needs - {"solution", "group", "oracle"}):
        for provider in registry.providers(need):
            kind, name = provider.split()
            if kind == "task":
                task = build(registry.get(kind, name), registry=registry)
                assert isinstance(task, Task)
                return Bench(problem=task.train_batch(step=0, count=1, seed=0)[0])
    return BENCH


def _example(cls: type[Component], name: str, field: FieldInfo) -> Any:
    if not field.examples:
        raise PluginError(
            f"{cls.kind} {cls.name!r}: option {name!r} must be given. Write {cls.name}.{name}=... behind the command, or give "
            f"the field an example, which recipes' editors show too: pydantic.Field(examples=[...])"
        )
    return field.examples[0]
