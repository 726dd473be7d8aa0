"""The text `${` in a recipe's values: how it is written, and that a resolved recipe keeps it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rosd_kit.recipe import build_components, load_recipe, to_yaml


def prompt_of(recipe) -> str:
    return recipe.task.options.prompt


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"run \${CC} x.c: {prompt}", "run ${CC} x.c: {prompt}"),
        (r"\${oc.env:HOME} {prompt}", "${oc.env:HOME} {prompt}"),
        (r"from \${ on {prompt}", "from ${ on {prompt}"),
        (r"a backslash and a reference \\${name} {prompt}", "a backslash and a reference \\grpo {prompt}"),
        (r"$\{CC} \frac{1}{2} \d {prompt}", r"$\{CC} \frac{1}{2} \d {prompt}"),
    ],
)
def test_a_backslash_makes_a_reference_text(registry, tmp_path, written, text):
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: grpo\nname: grpo\ntask: {{name: dataset, path: q.jsonl, prompt: '{written}'}}\nverifier: exact")
    recipe = load_recipe(file, registry=registry)
    assert prompt_of(recipe) == text
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert prompt_of(load_recipe(tmp_path / "again.yaml", registry=registry)) == text
    change = f"task.prompt='{written}'"
    base = ["task=dataset", "task.path=q.jsonl", "verifier=exact", "name=grpo"]
    assert prompt_of(load_recipe("grpo", [*base, change], registry=registry)) == text


@given(st.text(alphabet="\\${}ab \n\"'", max_size=16))
@example("\\\\${a}\n\\${")
@example("$${{")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_text_of_a_resolved_recipe_survives_being_written_and_read(registry, tmp_path, text):
    base = load_recipe("grpo", ["task=dataset", "task.path=q.jsonl", "verifier=exact"], registry=registry)
    options = base.task.options.model_copy(update={"solution": f"x{text}"})
    recipe = base.model_copy(update={"task": base.task.model_copy(update={"options": options})})
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml", registry=registry).task.options.solution == f"x{text}"


def test_an_unescaped_reference_is_refused_with_the_way_to_escape_it(refuse):
    for text in ("${CC}", "${", "${oc.env:HOME}"):
        assert r"write \${" in refuse(f"extends: grpo\nname: '{text}'")


@pytest.mark.parametrize(
    "written",
    [
        """task.prompt='Use $\\{CC} and \\{x}: {"a b"} \\{"a b"}'""",
        """task.prompt="Use $\\\\{CC} and \\\\{x}: {'a b'} \\\\{\\"a b\\"}\"""",
    ],
)
def test_a_template_on_the_command_line_holds_braces_and_any_name(registry, tmp_path, written):
    (tmp_path / "rows.jsonl").write_text('{"a b": "${x} {CC}", "answer": "1"}')
    base = ["task=dataset", f"task.path={tmp_path}/rows.jsonl", "task.held_out=0", "verifier=exact"]
    recipe = load_recipe("grpo", [*base, written], registry=registry)
    (problem,) = build_components(recipe, registry).task.train_batch(step=0, count=1, seed=0)
    assert problem.messages[0]["content"] == 'Use ${CC} and {x}: ${x} {CC} {"a b"}'
