"""Recipes: those that ship, which layer takes precedence, and what is refused with which message."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from rosd_kit.errors import RecipeError
from rosd_kit.recipe import build_components, load_recipe, resolve_recipe, to_yaml

ROOT = Path(__file__).parents[2]
FOLDERS = ("recipes/profiles/", "recipes/tasks/", "recipes/prompts/")
SHIPPED = sorted(
    path
    for path in (ROOT / "recipes").rglob("*.yaml")
    if not path.relative_to(ROOT).as_posix().startswith(FOLDERS) and not path.name.endswith(".sweep.yaml")
)
NAMES = [path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in SHIPPED]


def test_the_documented_recipes_ship():
    methods = {"rosd", "rosd_v2", "opsd", "sdpo", "sdft", "op2sd", "grpo", "rft", "micro/base"}
    assert methods <= set(NAMES)
    assert sum(name.startswith("ablations/") for name in NAMES) == 10


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_resolves_as_in_its_golden_file(name, registry, golden):
    recipe = load_recipe(name, registry=registry)
    build_components(recipe, registry)
    golden(f"recipes/{name.replace('/', '-')}.yaml", to_yaml(recipe))


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_recipe_resolves_to_itself(name, registry, tmp_path):
    recipe = load_recipe(name, registry=registry)
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(recipe))
    assert load_recipe(file, registry=registry) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_no_core_file_names_a_method(name):
    method = name.split("/")[-1]
    for core in ("run/loop.py", "pipeline/pipeline.py"):
        code = (ROOT / "rosd_kit" / core).read_text().lower().replace("rosd_kit", "").replace("rosd-kit", "")
        words = set(re.findall(r"[a-z0-9]+(?:[_-][a-z0-9]+)*", code))
        assert not words & {method, method.replace("_", "-"), f"is_{method}", f"{method}_step"}


@pytest.mark.parametrize("path", SHIPPED, ids=NAMES)
def test_a_shipped_recipe_is_valid_by_the_schema(path, schema):
    schema.validate(yaml.safe_load(path.read_text()))


def test_the_schema_takes_a_reference_for_a_number_and_nothing_else(schema):
    schema.validate({"optimizer": {"warmup_steps": "${steps}", "lr": {"from": 1.0, "to": 0.1, "steps": "${steps}"}}})
    for text in ("ten", "${oc.env:HOME}", "${steps} more"):
        assert not schema.is_valid({"optimizer": {"warmup_steps": text}})


@pytest.mark.parametrize(
    "recipe",
    [
        {"localiser": "full"},
        {"localizer": "fulll"},
        {"localizer": {"name": "error_quote", "boundry": "quote"}},
        {"localizer": {"boundry": "quote"}},
        {"optimizer": {"lr": "high"}},
        {"steps": -1},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(recipe, schema, refuse):
    assert not schema.is_valid(recipe)
    assert refuse(json.dumps(recipe))


def test_later_layers_win_and_each_value_has_its_origin(tmp_path, registry):
    (tmp_path / "base.yaml").write_text("extends: rosd\nsteps: 7\nseed: 5")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nsteps: 8")
    resolution = resolve_recipe(tmp_path / "top.yaml", ["optimizer.lr=0.5"], registry=registry)
    recipe = resolution.recipe
    assert (recipe.steps, recipe.seed, recipe.optimizer.lr, recipe.group_size, recipe.name) == (8, 5, 0.5, 8, "top")
    origins = {path: str(origin) for path, origin in resolution.provenance.items()}
    assert origins["steps"].endswith("top.yaml") and origins["seed"].endswith("base.yaml")
    assert origins["optimizer.lr"] == "command line"
    assert origins["group_size"] == "profile micro" and "optimizer.clip" not in origins


def test_another_component_drops_the_options_of_the_earlier_one(registry):
    recipe = load_recipe("rosd", ["divergence=reverse_kl"], registry=registry)
    assert "beta:" not in to_yaml(recipe)
    with pytest.raises(RecipeError, match=r"divergence\.beta"):
        load_recipe("rosd", ["divergence=reverse_kl", "divergence.beta=0.5"], registry=registry)


def test_references_stand_for_other_fields(tmp_path, registry):
    (tmp_path / "r.yaml").write_text("extends: rosd\nsteps: 40\noptimizer: {warmup_steps: '${steps}'}")
    assert load_recipe(tmp_path / "r.yaml", registry=registry).optimizer.warmup_steps == 40


def test_a_shipped_recipe_is_found_from_anywhere_by_its_name_and_by_its_path(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/rosd.yaml", registry=registry) == load_recipe("rosd", registry=registry)
    assert load_recipe("recipes/ablations/rosd-ema.yaml", registry=registry).teacher.name == "ema"


PROFILES = sorted((ROOT / "recipes/profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_shipped_profile_is_valid_by_the_schema_of_profiles_and_resolves(path, registry, profile_schema):
    content = yaml.safe_load(path.read_text())
    profile_schema.validate(content)
    assert load_recipe("rosd", [], path.stem, registry=registry).steps > 0
    for wrong in (
        {"extendz": "micro"},
        {"components": {"localizer": {"error_quote": {"boundry": "quote"}}}},
        {"profile": "micro"},
    ):
        assert not profile_schema.is_valid({**content, **wrong})


@pytest.mark.parametrize("which", ["schema", "profile_schema"])
def test_the_schema_itself_is_valid_and_describes_every_option(which, request):
    schema = request.getfixturevalue(which).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    for section in schema["$defs"].values():
        for name, field in section.get("properties", {}).items():
            assert "description" in field, name


def test_the_recipe_that_a_run_writes_is_valid_by_the_schema(registry, schema):
    schema.validate(yaml.safe_load(to_yaml(load_recipe("rosd_v2", registry=registry))))
