"""Recipes: YAML, `extends`, a profile and overrides become one validated `Recipe`, and a recipe becomes components.

Read in this order: `sources` (files), `layers` (merging), `references`, `validation` and `model` (what is valid), `resolve`
(all of it together), `build` (components), `render` and `schema` (writing).
"""

from __future__ import annotations

from rosd_kit.recipe.build import build_component, build_components
from rosd_kit.recipe.model import ComponentChoice, ObjectiveChoice, Recipe
from rosd_kit.recipe.render import explained, to_values, to_yaml
from rosd_kit.recipe.resolve import Resolution, load_recipe, resolve_recipe
from rosd_kit.recipe.schema import recipe_schema
from rosd_kit.recipe.sources import SHIPPED, shipped_names
from rosd_kit.settings import CoreSettings

__all__ = [
    "SHIPPED",
    "ComponentChoice",
    "CoreSettings",
    "ObjectiveChoice",
    "Recipe",
    "Resolution",
    "build_component",
    "build_components",
    "explained",
    "load_recipe",
    "recipe_schema",
    "resolve_recipe",
    "shipped_names",
    "to_values",
    "to_yaml",
]
