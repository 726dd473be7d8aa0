"""The base class of all options: frozen, checked, and with schedules in place of numbers.

A field keeps its type: it holds a number, for a schedule the value of step 0, and `at_step` returns the options with the
values of another step. The schedule itself is kept beside the fields and is what is written out again.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from rosd_kit.options.schedule import Schedule
from rosd_kit.types import JsonObject


@dataclass(frozen=True)
class Fixed:
    """Marks a numeric option that cannot change during a run: `Annotated[int, Fixed("the pool is started once")]`."""

    reason: str


class Config(pydantic.BaseModel):
    """Options of a component: frozen, unknown keys refused, defaults as in the method's source.

    Give each field a docstring: `rosd-kit components` prints it and the JSON Schema shows it. `free_on_resume` names options
    that a resumed run may change, because they affect where and how it runs, not its numbers. `renamed_options` maps former
    option names to current ones: recipes that use a former name load with a warning.

    Recipes may write a schedule for every number, so read options when you use them, not in the constructor. Mark a number
    that cannot change during a run with `Fixed`, or all of them with `fixed_because`. `excluded_by_schedule` says which other
    options a scheduled one excludes, and the values that these then have.

    Numbers are finite, also in options of any type: a schedule, a digest and JSON can hold nothing else. Where there may be no
    limit, let the option be null.

    Mark an option with `Trusted` if it can start a program, import code, send data to a host, or read a pickle: a recipe of a
    stranger may then not set it.
    """

    free_on_resume: ClassVar[frozenset[str]] = frozenset()
    renamed_options: ClassVar[Mapping[str, str]] = {}
    fixed_because: ClassVar[str] = ""
    excluded_by_schedule: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    _schedules: dict[str, Schedule] = pydantic.PrivateAttr(default_factory=dict)

    def schedules(self) -> dict[str, Schedule]:
        """Return every scheduled option by its dotted path."""
        found: dict[str, Schedule] = {}
        for name in type(self).model_fields:
            if name in self._schedules:
                found[name] = self._schedules[name]
            else:
                found |= {f"{name}{path}": schedule for path, schedule in _schedules_in(getattr(self, name))}
        return found

    def at_step(self, step: int) -> Self:
        """Return these options with the values of a step, counted from 0; the same object where nothing is scheduled."""
        changed: dict[str, object] = {name: schedule.value(step) for name, schedule in self._schedules.items()}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name not in changed and (present := _at_step(value, step)) is not value:
                changed[name] = present
        return self.model_copy(update=changed) if changed else self

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """Return a copy; a field that `update` sets is scheduled no more."""
        copied = super().model_copy(update=update, deep=deep)
        copied._schedules = {name: one for name, one in self._schedules.items() if name not in (update or {})}
        return copied

    def model_post_init(self, context: object, /) -> None:
        """Keep schedules beside the fields and let these hold the values of step 0."""
        self._schedules = {name: value for name, value in self.__dict__.items() if isinstance(value, Schedule)}
        for name, schedule in self._schedules.items():
            self.__dict__[name] = schedule.value(0)
            for option, value in self.excluded_by_schedule.get(name, {}).items():
                if option in self.model_fields_set and getattr(self, option) != value:
                    message = {"message": f"{name} has a schedule; set {option}={value}"}
                    raise _error_at((option,), getattr(self, option), PydanticCustomError("excluded", "{message}", message))
                self.__dict__[option] = value

    @pydantic.model_validator(mode="after")
    def _numbers_are_finite(self) -> Self:
        """Check what `allow_inf_nan` leaves out: values of options that may hold anything."""
        for name, value in self.__dict__.items():
            for place, number in _not_finite(value):
                raise _error_at((name, *place), number, "finite_number")
        return self

    @pydantic.model_validator(mode="after")
    def _check_every_step(self) -> Self:
        """Validate the options again with the values that the schedules take later."""
        steps = set().union(*(schedule.checked_steps() for schedule in self._schedules.values()))
        for step in sorted(steps):
            values = {name: schedule.value(step) for name, schedule in self._schedules.items()}
            type(self).model_validate({**self.__dict__, **values})
        return self

    @pydantic.model_serializer(mode="wrap")
    def _write_schedules(self, write: pydantic.SerializerFunctionWrapHandler) -> JsonObject:
        written: JsonObject = write(self)
        return written | {name: one.written() for name, one in self._schedules.items() if name in written}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        """Let every numeric field take a schedule too."""
        schema = handler(source)
        inner: Any = handler.resolve_ref_schema(schema)  # one of pydantic's forty kinds of schema
        while inner["type"] != "model-fields":
            inner = inner["schema"]
        for name, field in inner["fields"].items():
            if is_numeric(cls.__pydantic_fields__[name].annotation):
                holder = field["schema"] if field["schema"]["type"] == "default" else field
                if "takes_schedule" not in holder["schema"].get("metadata", {}):  # pydantic hands out the same schema again
                    validate = partial(_number_or_schedule, why_fixed(cls, name), _is_whole(cls.__pydantic_fields__[name]))
                    holder["schema"] = core_schema.no_info_wrap_validator_function(
                        validate, holder["schema"], metadata={"takes_schedule": True}
                    )
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: pydantic.GetJsonSchemaHandler) -> JsonObject:
        """Show in the JSON Schema which options take a schedule."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, written in properties.items():
            field = cls.model_fields.get(name)
            if field is not None and is_numeric(field.annotation) and not why_fixed(cls, name):
                about = {key: written.pop(key) for key in ("title", "description", "default", "examples") if key in written}
                forms = written["anyOf"] if set(written) == {"anyOf"} else [written]
                properties[name] = {"anyOf": [*forms, handler(Schedule.__pydantic_core_schema__)], **about}
        return schema


def is_numeric(annotation: object) -> bool:
    """Return whether an option's values are numbers, or words or null besides: only such an option takes a schedule."""
    members = set(_members(annotation))
    return bool(members & {int, float}) and members <= {int, float, str, bool, type(None), Literal}


def why_fixed(model: type[Config], name: str) -> str:
    """Return why an option cannot change during a run; empty where it can."""
    marks = [mark.reason for mark in model.__pydantic_fields__[name].metadata if isinstance(mark, Fixed)]
    return marks[0] if marks else model.fixed_because


def looks_like_schedule(value: object) -> bool:
    """Return whether a written value can only be meant as a schedule."""
    return isinstance(value, Mapping) and {"from", "to"} <= value.keys()


def _members(annotation: object) -> Iterator[object]:
    """Yield the types of a union, each without what `Annotated` adds."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield origin or annotation


def _is_whole(field: FieldInfo) -> bool:
    return float not in set(_members(field.annotation))


def _number_or_schedule(fixed: str, whole: bool, value: object, validate: Callable[[object], object]) -> object:
    """Validate an option's value, or both ends of its schedule."""
    if isinstance(value, Mapping):
        if fixed:
            raise PydanticCustomError("fixed_option", "A schedule cannot be used here: {why}. Give one number", {"why": fixed})
        value = Schedule.model_validate(value, strict=True)
    if not isinstance(value, Schedule):
        return validate(value)
    for end in (value.start, value.to):
        validate(int(end) if whole and end.is_integer() else end)
    return value.whole() if whole else value


def _error_at(place: tuple[str | int, ...], value: object, error: str | PydanticCustomError) -> pydantic.ValidationError:
    return pydantic.ValidationError.from_exception_data("options", [InitErrorDetails(type=error, loc=place, input=value)])


def _not_finite(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], float]]:
    """Yield every NaN and infinity in plain values, each with its place."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_finite(item, (*place, key if isinstance(key, int) else str(key)))


def _schedules_in(value: object) -> Iterator[tuple[str, Schedule]]:
    """Yield the schedules in options inside a field, each with the rest of its path."""
    if isinstance(value, Config):
        yield from ((f".{path}", schedule) for path, schedule in value.schedules().items())
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from ((f".{key}{path}", schedule) for path, schedule in _schedules_in(item))


def _at_step(value: object, step: int) -> object:
    """Return what a field holds with the values of a step; the same object where nothing is scheduled."""
    if isinstance(value, Config):
        return value.at_step(step)
    if isinstance(value, dict):
        changed = {key: _at_step(item, step) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    if isinstance(value, list | tuple):
        items = [_at_step(item, step) for item in value]
        return type(value)(items) if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
