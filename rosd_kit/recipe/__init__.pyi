"""The public names of this package, once: read by type checkers and by `__init__.py`."""

from rosd_kit.recipe.build import build_component as build_component
from rosd_kit.recipe.build import build_components as build_components
from rosd_kit.recipe.model import ComponentChoice as ComponentChoice
from rosd_kit.recipe.model import ObjectiveChoice as ObjectiveChoice
from rosd_kit.recipe.model import Recipe as Recipe
from rosd_kit.recipe.render import explained as explained
from rosd_kit.recipe.render import to_values as to_values
from rosd_kit.recipe.render import to_yaml as to_yaml
from rosd_kit.recipe.resolve import Resolution as Resolution
from rosd_kit.recipe.resolve import load_recipe as load_recipe
from rosd_kit.recipe.resolve import resolve_recipe as resolve_recipe
from rosd_kit.recipe.schema import recipe_schema as recipe_schema
from rosd_kit.recipe.shipped import SHIPPED as SHIPPED
from rosd_kit.recipe.shipped import shipped_names as shipped_names
from rosd_kit.settings import CoreSettings as CoreSettings
