"""Validates values against pydantic models and components' needs against capabilities, and explains mistakes.

Of where values come from it knows only a name per source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rosd_kit.errors import RecipeError, did_you_mean, shortened
from rosd_kit.options import Schedule
from rosd_kit.options.config import is_numeric, looks_like_schedule
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.model import Recipe
from rosd_kit.recipe.nearest_option import MAIN_OPTIONS as _MAIN_OPTIONS
from rosd_kit.recipe.nearest_option import nearest_option

M = TypeVar("M", bound=BaseModel)
_MOST_ERRORS = 6
_WANTS_NUMBER = ("int_type", "float_type")
_WANTS_LIST = ("list_type",)


def validated(
    model: type[M],
    values: Mapping[str, object],
    *,
    path: str,
    see: str,
    source: Callable[[str], str],
    also_known: Iterable[str] = (),
    others: Callable[[str], Sequence[str]] = lambda option: (),
) -> M:
    """Return the values as a model. YAML's types are taken literally: "3" is not a number, true is not an integer.

    `path` is the field that holds the values (empty for the top level), `source` says which layer set the value at a path,
    `also_known` lists further names to suggest, `others` the components that have an option which this one lacks.
    Raises `RecipeError` that lists every mistake.
    """
    try:
        return _with_lists(model, values)
    except ValidationError as error:
        lines = [_explain(model, detail, path, source, also_known, others) for detail in error.errors(include_url=False)]
        if len(lines) > _MOST_ERRORS:
            lines[_MOST_ERRORS:] = [f"... and {len(lines) - _MOST_ERRORS} more"]
        raise RecipeError("\n".join([*lines, f"See: {see}"])) from None


def _with_lists(model: type[M], values: Mapping[str, object]) -> M:
    """Return the values as a model; a text or number where a list is wanted becomes a list of one."""
    tree = json.loads(json.dumps(values, default=str))
    while True:
        try:
            return model.model_validate_json(json.dumps(tree), strict=True)
        except ValidationError as error:
            wanting = [detail for detail in error.errors(include_url=False) if detail["type"] in _WANTS_LIST]
            if not any([_put_into_list(tree, detail["loc"]) for detail in wanting]):
                raise


def _put_into_list(tree: object, place: Sequence[int | str]) -> bool:
    """Put the scalar at a place of some values into a list; return whether there was one."""
    *parents, last = map(str, place)
    for key in parents:
        if isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return False
    value = tree.get(last) if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(value, str | int | float) or isinstance(value, bool):
        return False
    tree[last] = [value]
    return True


#: Capabilities that options of `sampling` need, and what provides them.
_OVERLAP = ("overlap", "an engine that samples while the student trains")
_PARTIAL = ("partial_rollouts", "an engine that stops open requests: sglang, unless rollout.router is set")
_OFF_POLICY = ("off_policy", "a correction for older rollouts")


class UnmetNeedError(RecipeError):
    """A chosen component needs what no chosen component provides."""


def check_capabilities(recipe: Recipe, registry: Registry) -> None:
    """Raise `RecipeError` that lists every need of a chosen component that no chosen component meets."""
    filled = [(registry.get(kind, choice.name), choice.options) for kind, choice in recipe.choices()]
    chosen = [cls for cls, _ in filled]
    provided = frozenset().union(*(cls.offers(options) for cls, options in filled))
    provided |= {"lora"} if recipe.model.lora is not None else set()
    provided |= {"group"} if recipe.group_size > 1 else set()
    faults = [
        f"{cls.kind}: {cls.name!r} needs {need!r}, which no chosen component provides. {_remedy(need, registry)}"
        for cls in chosen
        for need in sorted(cls.needs - provided)
    ]
    for field, engine in (("prefetch", _OVERLAP), ("extra_problems", _PARTIAL)):
        if value := getattr(recipe.sampling, field):
            faults += [
                f"sampling.{field}: {value} needs {what}. {_remedy(need, registry)}"
                for need, what in (engine, _OFF_POLICY)
                if need not in provided
            ]
    if recipe.sampling.prefetch and recipe.sampling.extra_problems:
        faults.append("sampling.prefetch: 1 and sampling.extra_problems exclude each other. Set one of them to 0")
    if faults:
        raise UnmetNeedError("\n".join(dict.fromkeys(faults)))


def _remedy(need: str, registry: Registry) -> str:
    if need == "lora":
        return "Set model.lora, for example model.lora.rank=16"
    if need == "group":
        return "Set group_size to 2 or more"
    providers = registry.providers(need)
    return f"Provided by: {', '.join(providers)}" if providers else "No known component provides it"


def _explain(
    model: type[BaseModel],
    detail: ErrorDetails,
    path: str,
    source: Callable[[str], str],
    also_known: Iterable[str],
    others: Callable[[str], Sequence[str]],
) -> str:
    """Explain one mistake: field, value, what is allowed, remedy."""
    inner = [str(part) for part in detail["loc"]]
    field = ".".join([path, *inner] if path else inner)
    kind, context = detail["type"], detail.get("ctx", {})
    origin = f" (from {source(field)})" if kind != "missing" else ""
    if kind == "extra_forbidden":
        known = [*_fields_at(model, inner[:-1]), *(also_known if len(inner) == 1 else ())]
        options = f" Known: {', '.join(known)}" if known else " It takes no options"
        having = others(inner[-1]) if len(inner) == 1 else ()
        near = (
            f" {' and '.join(map(repr, having))} {'have' if len(having) > 1 else 'has'} it: {path}={having[0]}."
            if having
            else nearest_option(field, known)
        )
        return f"{field}: unknown field{origin}.{near}{options}"
    if kind == "missing":
        return f"{field}: must be given. Set it in the recipe, its profile, or on the command line: {field}=..."
    if kind == "literal_error" and not looks_like_schedule(detail["input"]):
        near = did_you_mean(str(detail["input"]), re.findall(r"'([^']*)'", context["expected"]))
        return f"{field}: {shortened(detail['input'])}{origin} is not allowed.{near} Allowed: {context['expected']}"
    if kind == "model_type" and field in _MAIN_OPTIONS:
        return f"{field}: {shortened(detail['input'])}{origin} is a section. Did you mean {_MAIN_OPTIONS[field]}=...?"
    if kind == "finite_number" and isinstance(detail["input"], float):
        return f"{field}: {shortened(detail['input'])}{origin} is not allowed. Give a finite number{_or_null(model, inner)}"
    why = " Only an option that is a single number can have a schedule." if looks_like_schedule(detail["input"]) else ""
    if why and kind not in ("fixed_option", "value_error"):
        return f"{field}: {shortened(detail['input'])}{origin} is not allowed.{why}"
    quoted = " Write it without quotation marks." if kind in _WANTS_NUMBER and _is_number(detail["input"]) else ""
    return f"{field}: {shortened(detail['input'])}{origin} is not allowed. {detail['msg']}{quoted and '.'}{quoted}"


def _is_number(value: object) -> bool:
    """Return whether a value is a text that reads as a finite number."""
    try:
        return isinstance(value, str) and isfinite(float(value))
    except ValueError:
        return False


def _or_null(model: type[BaseModel], place: Sequence[str]) -> str:
    """Return what else may be given at a place inside a model; empty if null may not."""
    field = model.model_fields.get(place[0]) if len(place) == 1 else None
    return ", or null" if field is not None and type(None) in get_args(field.annotation) else ""


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the model at a path inside another model."""
    current: type[BaseModel] | None = model
    for part in path:
        info = current.model_fields.get(part) if current else None
        if info is not None and is_numeric(info.annotation):
            return [field.alias or name for name, field in Schedule.model_fields.items()]
        options = getattr(info.annotation, "__args__", (info.annotation,)) if info else ()
        current = next((option for option in options if _is_model(option)), None)
    return list(current.model_fields) if current else []


def _is_model(value: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel)
