"""Recipes and overrides that end in one clear line: values with two readings, huge numbers, depth, odd paths and keys."""

from __future__ import annotations

import re

import pytest
import yaml

from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.recipe.ambiguous import UnambiguousDumper
from rosd_kit.recipe.sources import parse, read_overrides
from rosd_kit.run.given import flow
from rosd_kit.sweep.axes import parse_axis


@pytest.fixture(scope="module")
def registry():
    return PluginManager(selection="builtin").registry


TWO_READINGS = [
    ("yes", "true", "a text"), ("Off", "false", "a text"), ("on", "true", "a text"), ("NO", "false", "a text"),
    ("010", "the octal number 8", "the number 10"), ("-0_17", "the octal number -15", "the number -17"),
    ("089", "a text", "the number 89"), ("0o17", "a text", "the number 15"), ("0b11", "the number 3", "a text"),
    ("0xf_f", "the number 255", "a text"), ("1:30", "the number 90, counted in sixties", "a text"),
    ("-1:30:00", "the number -5400, counted in sixties", "a text"), ("1_000", "the number 1000", "a text"),
    ("1_0.5", "the number 10.5", "a text"), ("2024-01-02", "a date", "a text"), ("2024-1-2 10:00:00", "a date", "a text"),
    ("-.5", "a text", "the number -0.5"), (".5e3", "a text", "the number 500"), (".5e", "a text", "an unfinished number"),
    ("1e", "a text", "an unfinished number"), ("1.5E-", "a text", "an unfinished number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new"), TWO_READINGS)
def test_a_plain_value_with_two_readings_is_refused_with_both(text, old, new):
    said = re.escape(f"{text} is {old} to readers of YAML 1.1, and {new} to those of YAML 1.2")
    for read in (lambda: parse(f"task: {{x: [{text}]}}", "a.yaml"), lambda: read_overrides([f"task.x={text}"])):
        with pytest.raises(RecipeError, match=said):
            read()
    with pytest.raises(RecipeError, match=said):
        parse(f"{text}: 1", "a.yaml")


@pytest.mark.parametrize("text", [case[0] for case in TWO_READINGS])
def test_in_quotes_and_from_python_it_is_a_text(text):
    assert parse(f"x: '{text}'", "a.yaml") == {"x": text}
    assert read_overrides([f"x={flow(text)}"]) == [("x", {"x": text})]
    assert parse(yaml.dump({"x": text, text: [1]}, Dumper=UnambiguousDumper), "a.yaml") == {"x": text, text: [1]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-3", -3), ("1e-5", 1e-5), ("1.5", 1.5), (".5", 0.5), ("true", True), ("null", None), ("~", None),
        (".inf", float("inf")), ("0x10", 16), ("y", "y"), ("yes sir", "yes sir"), ("a_1", "a_1"), ("step 1:30", "step 1:30"),
        ("http://a:80", "http://a:80"), ("1.2.3", "1.2.3"), ("ono", "ono"), ("off-policy", "off-policy"),
    ],
)  # fmt: skip
def test_a_plain_value_with_one_reading_is_read(text, value):
    assert parse(f"x: {text}", "a.yaml") == {"x": value}


def test_a_merge_key_is_refused():
    with pytest.raises(RecipeError, match="<< is a mapping to merge"):
        parse("x: {<<: {a: 1}}", "a.yaml")


MANY = "1" * 5000


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"steps={MANY}", "a number of 5000 characters"),
        (f"steps=0x{MANY}", "a number of 5002 characters"),
        (f"steps='{MANY}'", "steps"),
        (f"optimizer.lr=-{MANY}.0", "a number of 5003 characters"),
        ("a" + ".a" * 1000 + "=1", "nested deeper than the 32 levels"),
        ("a" + "[0]" * 1000 + "=1", "nested deeper than the 32 levels"),
        ("objective={'²': full}", "objective"),
        ("objective.²=full", "objective"),
        ("objective.١=full", "objective"),
        (f"objective={{'{MANY}': full}}", "objective"),
        (f"objective.{MANY}=full", "objective"),
        (f"task.{MANY}=1", "task"),
    ],
)
def test_an_odd_override_is_an_error_that_names_its_field(registry, override, said):
    with pytest.raises(RecipeError) as refused:
        load_recipe("rosd", [override], registry=registry)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["~nouser/x.yaml", "a" * 5000 + ".yaml", "a" * 5000, "a/" * 3000 + "b.yml", "a\0b.yaml"])
def test_an_odd_path_is_one_short_line(tmp_path, registry, name):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"extends": name, "profile": "none"}))
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"extends": "rosd", "profile": name}))
    for what in (name, tmp_path / "mine.yaml", tmp_path / "my.yaml", {"extends": name}):
        with pytest.raises(RecipeError) as refused:
            load_recipe(what, registry=registry)
        assert len(str(refused.value)) < 1500 and "\n" not in str(refused.value)


def test_a_ring_of_links_is_an_error(tmp_path, registry):
    (tmp_path / "ring.yaml").symlink_to(tmp_path / "ring.yaml")
    with pytest.raises(RecipeError, match=r"ring\.yaml"):
        load_recipe(tmp_path / "ring.yaml", registry=registry)


def test_a_mapping_from_python_may_not_be_too_deep_or_huge(registry):
    deep: dict[str, object] = {}
    for _ in range(3000):
        deep = {"a": deep}
    for fields in ({"extends": "rosd", "task": deep}, {"extends": "rosd", "steps": 10**5000}):
        with pytest.raises(RecipeError):
            load_recipe(fields, registry=registry)


@pytest.mark.parametrize("values", [f"{MANY}..{MANY}", "٠..٢", f"0..{MANY}"])
def test_a_range_of_a_sweep_that_is_none_is_a_text(values):
    assert parse_axis(f"seed={values}").values == (values,)
