"""Marks options that need trust: with them a recipe could start a program, import code, reach a host, or read a pickle.

A recipe is data that people share. Such an option is honoured only from someone whom the user trusts; `recipe/trust.py` checks
that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, get_args, get_origin, get_type_hints

from pydantic import GetJsonSchemaHandler, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from rosd_kit.types import JsonObject


@dataclass(frozen=True)
class Trusted:
    """Marks an option that needs trust: `Annotated[str, Trusted("can send the prompts to any host")]`.

    `can` says what the option can do. Recipes that the user has not trusted may leave it at its default, or give it a value in
    `harmless`, or a list of these. `Field(json_schema_extra={"trusted": True})` marks an option too, without a reason.
    """

    can: str
    harmless: tuple[object, ...] = ()

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        """Show the mark in the JSON Schema."""
        return {**handler(core), "trusted": True}

    def is_harmless(self, value: object) -> bool:
        """Return whether anyone may write this value, or every item of this list."""
        return all(item in self.harmless for item in value) if isinstance(value, list) else value in self.harmless


_UNSAID = Trusted("needs trust")


def trusted_mark(field: FieldInfo) -> Trusted | None:
    """Return the mark of an option that needs trust; None for every other option.

    The mark counts wherever it stands in the option's type: beside `| None`, in a list, behind an alias. The fields of a
    section have their own marks; those of a dataclass or typed dictionary count for the whole option.
    """
    inner = (mark for part in parts_of(field.annotation) if get_origin(part) is Annotated for mark in get_args(part)[1:])
    for mark in (*field.metadata, *inner):
        if isinstance(mark, Trusted):
            return mark
        if mark is Trusted:
            return _UNSAID
    extra = field.json_schema_extra
    return _UNSAID if isinstance(extra, Mapping) and extra.get("trusted") is True else None


def parts_of(annotation: object) -> Iterator[object]:
    """Yield a type and every type that it is made of; a section ends the search, because it has options of its own."""
    seen: list[object] = []
    todo = [annotation]
    while todo:
        part = todo.pop()
        if any(part is each for each in seen):
            continue
        seen.append(part)
        yield part
        todo += get_args(part)
        if hasattr(part, "__value__"):  # the alias of a `type` statement
            todo.append(part.__value__)
        if not isinstance(part, type):
            continue
        if issubclass(part, RootModel):
            todo += (part.model_fields["root"].annotation, *map(_annotated, part.model_fields["root"].metadata))
        elif is_dataclass(part) or hasattr(part, "__required_keys__") or hasattr(part, "_fields"):
            todo += get_type_hints(part, include_extras=True).values()


def _annotated(mark: object) -> object:
    return Annotated[object, mark]
