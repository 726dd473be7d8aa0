"""The JSON Schema of recipes as people write them: nothing required, slots in short or long form.

It is made from the pydantic models, so an editor shows the same descriptions as `rosd-kit components`. It cannot express what
one component needs of another, nor `${...}` references; loading a recipe checks those.
"""

from __future__ import annotations

from pydantic import BaseModel

from rosd_kit.contracts import SLOTS, Component
from rosd_kit.options import Schedule
from rosd_kit.plugins.registry import Registry, summary_of
from rosd_kit.recipe.model import ObjectiveChoice, Recipe
from rosd_kit.recipe.shipped import shipped_names
from rosd_kit.settings import CoreSettings
from rosd_kit.types import JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = JsonObject
_SCALARS = frozenset({"integer", "number", "boolean"})
_REFERENCE: Schema = {
    "type": "string",
    "pattern": r"^\$\{[A-Za-z_]\w*(\.\w+)*\}$",
    "description": "The value of another field.",
}


def recipe_schema(registry: Registry, *, profile: bool = False) -> Schema:
    """Return the schema of a recipe file, or of a profile, for the components of this registry."""
    definitions: Schema = {}
    properties = _properties(CoreSettings, definitions)
    for kind in SLOTS:
        about = Recipe.model_fields[kind].description
        properties[kind] = {"description": about, **_slot(kind, registry, definitions)}
    properties["extends"] = {"type": "string", "description": "A file, relative to this one, or a name to build on."}
    properties["prompts"] = {
        "anyOf": [{"enum": [*shipped_names("prompts"), "none"]}, {"type": "string", "pattern": r"\.ya?ml$"}],
        "description": "Templates for reflector and context: a file, relative to this one, or a shipped name; `none` for none.",
    }
    if profile:
        properties["components"] = _presets(registry, definitions)
    else:
        properties["plugins"] = {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Plugin files that a resolved recipe was written with, each with its fingerprint.",
        }
        properties["profile"] = {"type": "string", "description": "Name or file of the profile; `none` for none."}
    return {
        "$schema": DIALECT,
        "title": f"rosd-kit {'profile' if profile else 'recipe'}",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _slot(kind: str, registry: Registry, definitions: Schema) -> Schema:
    """Return the forms of a slot: a name, a name with options, or options for the component of a lower layer."""
    forms: list[Schema] = [{"enum": list(registry.names(kind))}]
    if kind == "task":
        forms = [_preset_form(forms[0]["enum"])]
    for name in registry.names(kind):
        cls = registry.get(kind, name)
        options = {"name": {"const": name}, **_options(cls, definitions)}
        forms.append({**_closed(options), "description": summary_of(cls), "required": ["name"]})
    known = sorted({option for form in forms[1:] for option in form["properties"]} - {"name"})
    if kind == "task":
        forms.append({"type": "object", "required": ["name"], "properties": {"name": _preset_form([])}})
    forms.append({"type": "object", "not": {"required": ["name"]}, "propertyNames": {"enum": known}})
    one = {"oneOf": forms}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if kind == "objective" else one


def _preset_form(names: list[str]) -> Schema:
    """Return the schema of a task's name: a component, a preset, or the path of a preset."""
    presets = [{"enum": [*names, *shipped_names("tasks")]}, {"type": "string", "pattern": r"\.ya?ml$"}]
    return {"anyOf": presets, "description": "A component, a task preset, or the path of one."}


def _options(cls: type[Component], definitions: Schema) -> Schema:
    own = _properties(ObjectiveChoice, definitions) if cls.kind == "objective" else {}
    return {**_properties(cls.Config, definitions), **{name: own[name] for name in ("weight", "denominator") if name in own}}


def _presets(registry: Registry, definitions: Schema) -> Schema:
    slots = {
        kind: _closed(
            {name: _closed(_properties(registry.get(kind, name).Config, definitions)) for name in registry.names(kind)}
        )
        for kind in SLOTS
    }
    about = "Options for components, by slot and name, that hold whenever a recipe chooses them."
    return {**_closed(slots), "description": about}


def _properties(model: type[BaseModel], definitions: Schema) -> Schema:
    """Return the schemas of a model's fields; nested models move to `definitions`, with nothing required."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    for name, nested in schema.pop("$defs", {}).items():
        nested.pop("required", None)
        definitions[name] = _or_reference(_shared_schedule(nested, definitions))
    definitions["Reference"] = _REFERENCE
    properties = schema.get("properties", {})
    return {name: _or_reference(_shared_schedule(one, definitions)) for name, one in properties.items()}


def _or_reference(schema: object) -> object:
    """Return a schema in which every number and switch may also be a reference to another field."""
    if isinstance(schema, list):
        return [_or_reference(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(kind := schema.get("type"), str) and kind in _SCALARS:
        about = {key: schema[key] for key in ("title", "description", "default", "trusted") if key in schema}
        value = {key: item for key, item in schema.items() if key not in about}
        return {**about, "anyOf": [value, {"$ref": "#/$defs/Reference"}]}
    return {key: _or_reference(item) for key, item in schema.items()}


def _shared_schedule(schema: object, definitions: Schema) -> object:
    """Return a schema in which every schedule is a reference to one definition."""
    if isinstance(schema, list):
        return [_shared_schedule(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("title") == Schedule.__name__ and "from" in schema.get("properties", {}):
        definitions[Schedule.__name__] = _or_reference(schema)
        return {"$ref": f"#/$defs/{Schedule.__name__}"}
    return {key: _shared_schedule(item, definitions) for key, item in schema.items()}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}
