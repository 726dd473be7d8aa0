"""No option takes a number that is not finite: every option of the recipe and of every component, in each form of value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

import rosd_kit as rk
from rosd_kit.errors import RecipeError
from rosd_kit.options import Config
from rosd_kit.options.trusted import parts_of
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.recipe.model import Recipe

REGISTRY = PluginManager(selection="builtin").registry
NOT_FINITE = (math.inf, -math.inf, math.nan)


def sections(model: type[pydantic.BaseModel], seen: set[type]) -> Iterator[type[pydantic.BaseModel]]:
    """Yield a class of options and those of its sections, each once."""
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, pydantic.BaseModel):
                yield from sections(part, seen)


def all_options() -> list[tuple[type[pydantic.BaseModel], str]]:
    roots = [Recipe, *(entry.cls.Config for entries in REGISTRY.entries.values() for entry in entries.values())]
    seen: set[type] = set()
    return [(model, name) for root in roots for model in sections(root, seen) for name in model.model_fields]


def holds_anything(model: type[pydantic.BaseModel], name: str) -> bool:
    return any(part in (Any, object) for part in parts_of(model.model_fields[name].annotation))


def test_no_option_takes_a_number_that_is_not_finite():
    options = [option for option in all_options() if not holds_anything(*option)]
    floats = [option for option in options if float in parts_of(option[0].model_fields[option[1]].annotation)]
    assert len(options) > 250 and len(floats) > 60
    accepted = []
    for model, name in options:
        for number in NOT_FINITE:
            forms = (number, [number], [0.5, number], {"a": number}, {"from": number, "to": 0.5, "steps": 2})
            for form in forms:
                try:
                    model.model_validate({model.model_fields[name].alias or name: form})
                    accepted.append(f"{model.__qualname__}.{name}={form}")
                except pydantic.ValidationError as error:
                    if not any(detail["loc"][:1] == (name,) for detail in error.errors()):
                        accepted.append(f"{model.__qualname__}.{name}={form}")
    assert accepted == []


@pytest.mark.parametrize("written", [".inf", "-.inf", ".nan", "1e400"])
@pytest.mark.parametrize(
    ("field", "override"),
    [
        ("optimizer.lr", "optimizer.lr=%s"),
        ("optimizer.betas.1", "optimizer.betas=[0.9, %s]"),
        ("sampling.temperature", "sampling.temperature=%s"),
        ("evaluation.temperature", "evaluation.temperature=%s"),
        ("objective.weight", "objective.weight=%s"),
        ("model.chat_template_kwargs.x.float", "model.chat_template_kwargs.x=%s"),
        ("optimizer.lr.to", "optimizer.lr={from: 1, to: %s, steps: 3}"),
        ("verifier.default.deadline", "verifier={name: by_suite, default: {name: math, deadline: %s}}"),
        ("task.train.0.options.max_terms", "task={name: reasoning_gym, train: [{kind: sum, options: {max_terms: %s}}]}"),
        ("task.where.level.1", "task={name: dataset, prompt: x, path: rows.jsonl, where: {level: [1, %s]}}"),
        ("task.suites.b.where.a", "task={name: dataset, prompt: x, path: a, suites: {b: {path: b, where: {a: %s}}}}"),
    ],
)
def test_the_refusal_names_field_value_and_remedy(field, override, written):
    with pytest.raises(RecipeError) as caught:
        load_recipe("rosd", [override % written], "micro", registry=REGISTRY)
    value = {".inf": "inf", "-.inf": "-inf", ".nan": "nan", "1e400": "inf"}[written]
    assert f"{field}: {value} (from command line) is not allowed. Give a finite number" in str(caught.value)


def test_an_option_that_may_be_null_says_so():
    with pytest.raises(RecipeError, match="Give a finite number, or null"):
        load_recipe("rosd", ["divergence.entry_clip=.inf"], "micro", registry=REGISTRY)


class PluginOptions(Config):
    """Options of a plugin that knows nothing of this rule."""

    model_config = pydantic.ConfigDict(str_strip_whitespace=True)
    factor: float = 1.0
    table: dict[str, Any] = pydantic.Field(default_factory=dict)
    pairs: tuple[tuple[str, float], ...] = ()


@pytest.mark.parametrize("number", NOT_FINITE)
def test_the_rule_holds_for_plugins(number):
    for values in ({"factor": number}, {"table": {"a": [{"b": number}]}}, {"pairs": [["a", number]]}):
        with pytest.raises(pydantic.ValidationError, match="finite number"):
            PluginOptions(**values)
    with pytest.raises(pydantic.ValidationError, match="finite number"):  # it overflows on its way
        PluginOptions(factor={"from": -1.7e308, "to": 1.7e308, "steps": 3})
    assert PluginOptions(factor=1e308, table={"a": [1.5, "inf"]}).factor == 1e308
    assert rk.Config is Config
