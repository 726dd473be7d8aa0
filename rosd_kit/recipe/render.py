"""Writes a resolved recipe as YAML that loads to the same recipe, with or without the origin of each value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import yaml

from rosd_kit.contracts import SLOTS
from rosd_kit.recipe.model import ComponentChoice, Recipe
from rosd_kit.recipe.references import escape_references
from rosd_kit.recipe.resolve import NO_PROFILE
from rosd_kit.settings import CoreSettings
from rosd_kit.types import JsonObject

_COMMENT_COLUMN = 46
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")


def to_values(recipe: Recipe) -> JsonObject:
    """Return the recipe as plain values, in the form in which recipes are written and with every option."""
    core = recipe.model_dump(mode="json", include=set(CoreSettings.model_fields))
    slots = {kind: _choice(getattr(recipe, kind)) for kind in SLOTS if kind != "objective"}
    terms = [_choice(term) for term in recipe.objective]
    return {**core, **slots, "objective": terms}


def to_yaml(recipe: Recipe, plugins: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the whole recipe as YAML. It names no profile, so it loads the same everywhere.

    `plugins` are the plugin files that bring components of it, with their fingerprints.
    """
    return _plugin_lines(plugins) + _document(recipe, None)


def _plugin_lines(plugins: Mapping[str, str]) -> str:
    lines = [f"  {_scalar(file)}: {_scalar(one)}\n" for file, one in plugins.items()]
    return "".join(["plugins:\n", *lines]) if lines else ""


def explained(
    recipe: Recipe,
    provenance: Mapping[str, str],
    needing_trust: Collection[str] = (),
    refused: Collection[str] = (),
    plugins: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the same YAML with a comment on each value that names the layer that set it.

    Values of options that need trust are marked, those that are refused for want of it apart from the others.
    """
    marks = {**dict.fromkeys(needing_trust, "; needs trust"), **dict.fromkeys(refused, "; REFUSED: not trusted")}
    provenance = {**provenance, **{path: provenance.get(path, "default") + mark for path, mark in marks.items()}}
    return _plugin_lines(plugins) + _document(recipe, provenance)


def _document(recipe: Recipe, provenance: Mapping[str, str] | None) -> str:
    return "\n".join([_profile_line(provenance), *_lines(to_values(recipe), "", 0, provenance)]) + "\n"


def _profile_line(provenance: Mapping[str, str] | None) -> str:
    """Return the line that keeps a profile from being added again; with origins, it says which one is in the values."""
    line = f"profile: {NO_PROFILE}"
    used = sorted({source for source in (provenance or {}).values() if source.startswith("profile ")})
    return f"{line:<{_COMMENT_COLUMN}}  # the values of {', '.join(used)} are written out below" if used else line


def _choice(choice: ComponentChoice) -> JsonObject:
    written = choice.model_dump(mode="json")
    options = written.pop("options")
    return {**written, **options}


def _lines(values: Mapping[str, object], path: str, depth: int, provenance: Mapping[str, str] | None) -> Iterator[str]:
    indent = "  " * depth
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(value, here, depth + 1, provenance)
        elif here == "objective" and isinstance(value, list):
            yield f"{indent}objective:"
            for i, term in enumerate(value):
                first, *rest = _lines(term, f"{here}.{i}", depth + 2, provenance)
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            head, *rest = f"{indent}{_scalar(key)}: {_text(value, indent)}".split("\n")
            source = "" if provenance is None else f"# {provenance.get(here, 'default')}"
            yield f"{head:<{_COMMENT_COLUMN}}  {source}" if source else head
            yield from rest


def _text(value: object, indent: str) -> str:
    """Return a value as YAML; text of several lines becomes a block if that keeps it exactly."""
    if not isinstance(value, str) or "\n" not in value or value[0].isspace() or value.endswith("\n\n"):
        return _scalar(value)
    if not all(line.isprintable() for line in value.split("\n")):
        return _scalar(value)
    value = escape_references(value)
    mark, body = ("|", value[:-1]) if value.endswith("\n") else ("|-", value)
    return "\n".join([mark, *(f"{indent}  {line}" if line else "" for line in body.split("\n"))])


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader might take for a number or a keyword, and escapes `${`."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if _PLAIN.fullmatch(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", escape_references(text), style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _scalar(value: object) -> str:
    """Return a value as one line of YAML."""
    return _remembered(value) if isinstance(value, str | int | None) else _dumped(value)


@lru_cache(maxsize=4096, typed=True)  # True and 1 are equal
def _remembered(value: str | int | None) -> str:
    return _dumped(value)


def _dumped(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
