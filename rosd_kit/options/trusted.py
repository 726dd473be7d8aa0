"""Marks options that need trust: with them a recipe could start a program, import code, reach a host, or read a pickle.

A recipe is data that people share. Such an option is honoured only from someone whom the user trusts; `recipe/trust.py` checks
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Trusted:
    """Marks an option that needs trust: `Annotated[str, Trusted("can send the prompts to any host")]`.

    `can` says what the option can do. Recipes that the user has not trusted may leave it at its default, or give it a value in
    `harmless`, or a list of these. `Field(json_schema_extra={"trusted": True})` marks an option too, without a reason.
    """

    can: str
    harmless: tuple[object, ...] = ()

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Show the mark in the JSON Schema."""
        return {**handler(core), "trusted": True}

    def is_harmless(self, value: object) -> bool:
        """Return whether anyone may write this value, or every item of this list."""
        return all(item in self.harmless for item in value) if isinstance(value, list) else value in self.harmless


def trusted_mark(field: FieldInfo) -> Trusted | None:
    """Return the mark of an option that needs trust; None for every other option."""
    for mark in field.metadata:
        if isinstance(mark, Trusted):
            return mark
    extra = field.json_schema_extra
    return Trusted("needs trust") if isinstance(extra, Mapping) and extra.get("trusted") is True else None
