"""Problems from files: every format, templates, divisions, and what is said of rows that do not fit."""

from __future__ import annotations

import csv
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rosd_kit.components.tasks import Dataset
from rosd_kit.data.fields import FieldError, check_fields, fill_fields
from rosd_kit.errors import RecipeError, RunError
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import load_recipe
from tests.components.rows import DATA, rows

ROWS = [{"question": f"What is {i} + 1 ?", "result": str(i + 1), "level": "easy" if i % 2 else "hard"} for i in range(20)]
FIELDS = {"prompt": "{question}", "answer": "{result}"}


def write(folder, kind: str, table=ROWS):
    """Write rows as a file of some kind and return its path."""
    file = folder / f"rows{kind}"
    if kind == ".jsonl":
        file.write_text("\n".join(map(json.dumps, table)) + "\n\n")
    elif kind == ".json":
        file.write_text(json.dumps(table))
    elif kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), file)
    elif kind in (".csv", ".tsv"):
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(table[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(table)
    else:
        datasets.DatasetDict({"train": datasets.Dataset.from_list(table)}).save_to_disk(str(file))
    return str(file)


def task(path: str, **options) -> Dataset:
    return Dataset(Dataset.Config(path=path, **{**FIELDS, **options}))


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ""])
def test_every_format_gives_the_same_problems(tmp_path, kind):
    found = task(write(tmp_path, kind)).train_batch(step=0, count=18, seed=0)
    assert sorted(int(p.answer) for p in found) == sorted({int(p.answer) for p in found}) and len(found) == 18
    for problem in found:
        assert problem.messages == ({"role": "user", "content": f"What is {int(problem.answer) - 1} + 1 ?"},)
        assert problem.solution is None


def test_the_held_out_share_is_never_trained_on_and_always_the_same(tmp_path):
    path = write(tmp_path, ".jsonl")
    trained = {p.answer for step in range(6) for p in task(path, held_out=0.25).train_batch(step=step, count=5, seed=3)}
    suites = task(path, held_out=0.25).suites(count=100, seed=0)
    measured = {p.answer for p in suites["held_out"]}
    assert len(trained) == 15 and len(measured) == 5 and not trained & measured
    assert measured == {p.answer for p in task(path, held_out=0.25).suites(count=100, seed=9)["held_out"]}
    assert measured != {p.answer for p in task(path, held_out=0.25, split_seed=1).suites(count=100, seed=0)["held_out"]}


def test_an_epoch_shows_each_row_once_and_the_next_in_another_order(tmp_path):
    found = task(write(tmp_path, ".jsonl"), held_out=0)
    steps = [[p.answer for p in found.train_batch(step=step, count=10, seed=0)] for step in range(4)]
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert sorted(first) == sorted(second) == sorted(row["result"] for row in ROWS) and first != second
    assert [p.answer for p in found.train_batch(step=3, count=10, seed=0)] == steps[3], "stateless"
    assert [p.answer for p in found.train_batch(step=0, count=10, seed=1)] != steps[0]
    straight = task(write(tmp_path, ".jsonl"), held_out=0, shuffle=False)
    assert [p.answer for p in straight.train_batch(step=0, count=20, seed=0)] == [row["result"] for row in ROWS]


def test_a_step_larger_than_the_data_has_ids_of_its_own(tmp_path):
    found = task(write(tmp_path, ".jsonl"), held_out=0).train_batch(step=1, count=50, seed=0)
    assert len({p.id for p in found}) == 50


def test_where_and_limit(tmp_path):
    easy = task(write(tmp_path, ".jsonl"), where={"level": "easy"}, held_out=0).train_batch(step=0, count=10, seed=0)
    assert all(int(p.answer) % 2 == 0 for p in easy)
    either = task(write(tmp_path, ".jsonl"), where={"level": ["easy", "hard"]}, limit=4, held_out=0, shuffle=False)
    assert [p.answer for p in either.train_batch(step=0, count=4, seed=0)] == ["1", "2", "3", "4"]


def test_suites_have_rows_and_templates_of_their_own(tmp_path):
    other = write(tmp_path / "..", ".json", [{"ask": "Why ?", "so": "because"}])
    suites = {
        "why": {"path": other, "prompt": "{ask}", "answer": "{so}"},
        "same": {"path": write(tmp_path, ".csv"), "in_domain": True},
    }
    found = task(write(tmp_path, ".jsonl"), suites=suites, held_out=0, system="Be brief.")
    measured = found.suites(count=3, seed=0)
    assert {name: len(problems) for name, problems in measured.items()} == {"why": 1, "same": 3}
    assert measured["why"][0].messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why ?"})
    assert found.in_domain() >= {"same"} and "why" not in found.in_domain()


def test_a_suite_needs_no_solution_and_may_do_without_the_system_message(tmp_path):
    other = write(tmp_path / "..", ".json", [{"ask": "Why ?", "so": "because"}])
    suites = {"why": {"path": other, "prompt": "{ask}", "answer": "{so}", "system": ""}}
    found = task(write(tmp_path, ".jsonl"), suites=suites, system="Be brief.", solution="{question} {result}")
    (problem,) = found.suites(count=5, seed=0)["why"]
    assert problem.messages == ({"role": "user", "content": "Why ?"},) and problem.solution is None
    assert all(p.solution and len(p.messages) == 2 for p in found.train_batch(step=0, count=3, seed=0))


def test_a_solution_is_a_capability_only_where_the_data_has_one(tmp_path):
    registry = PluginManager(selection="builtin").registry
    base = ["task=dataset", f"task.path={write(tmp_path, '.jsonl')}", "task.prompt={question}", "task.answer={result}"]
    with pytest.raises(RecipeError, match=r"task.prompt: .*YAML reads bare braces as a mapping; put the template in quotes"):
        load_recipe("opsd", base, registry=registry)
    base = [change.replace("{", '"{').replace("}", '}"') for change in base]
    changes = [*base, "verifier=exact", "demonstration=reference"]
    with pytest.raises(RecipeError, match="demonstration: 'reference' needs 'solution'"):
        load_recipe("opsd", changes, registry=registry)
    recipe = load_recipe("opsd", [*changes, 'task.solution="{question} {result}"'], registry=registry)
    (problem, *_) = Dataset(recipe.task.options).train_batch(step=0, count=1, seed=0)
    assert problem.solution is not None and problem.solution.endswith(problem.answer)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"prompt": "{qestion}"},
            r"task.prompt: \{qestion\}: there is no 'qestion'. Did you mean 'question'\?(.|\n)*The row is \{question: ",
        ),
        ({"answer": "{result.value}"}, r"there is no 'value'"),
        ({"where": {"level": "none"}}, r"task.where: none of the 20 rows .*The first row is: \{question"),
        ({"where": {"levle": "easy"}}, r"task.where: a row has no 'levle'. Its fields: \{question"),
        ({"held_out": 0.01}, r"task.held_out: 0.01 of 20 rows leaves 0 to measure on and 20 to train on"),
    ],
)
def test_rows_that_do_not_fit_are_shown(tmp_path, options, told):
    with pytest.raises(RunError, match=told):
        task(write(tmp_path, ".jsonl"), **options).train_batch(step=0, count=1, seed=0)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": ', "line 2"),
        ("a.jsonl", "[1]\n", r"row 1 of .* is \[1\], not an object"),
        ("a.jsonl", "", "has no rows"),
        ("a.json", '{"a": 1}', "holds dict, not a list of rows"),
        ("a.csv", "a,b\n1\n", "another number of cells"),
        ("a.parquet", "nonsense", "cannot read"),
        ("a.txt", "x", "is none of .jsonl, .json"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=told):
        task(str(tmp_path / name), held_out=0).train_batch(step=0, count=1, seed=0)


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path):
    write(tmp_path, ".jsonl")
    with pytest.raises(RunError, match=r"there is no file .*row.jsonl'. Did you mean 'rows.jsonl'\?"):
        task(str(tmp_path / "row.jsonl")).train_batch(step=0, count=1, seed=0)


ROW = {
    "q": "Why?",
    "n": 2,
    "options": ["red", "blue"],
    "nested": {"text": ["x", "y"], "label": ["1", "2"]},
    "sol": "a #### b\n#### 42",
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{q}", "Why?"),
        ("{q}\n\n{options|letters}", "Why?\n\nA: red\nB: blue"),
        ("{nested|letters}", "1: x\n2: y"),
        ("{nested.text.1}", "y"),
        ("{n|letter} and {n}", "C and 2"),
        ("{sol|last}", "42"),
        ("{options|json}", '["red", "blue"]'),
        ("\\boxed{} {{q}} { q}", "\\boxed{} {Why?} { q}"),
    ],
)
def test_templates(template, expected):
    assert fill_fields(template, ROW) == expected


@pytest.mark.parametrize(
    "template", ["{options}", "{nested}", "{options.5}", "{q|letters}", "{q|letter}", "{q|last}", "{q.upper}", "{n.real}"]
)
def test_templates_that_do_not_fit_the_row(template):
    with pytest.raises(FieldError, match=r"\{"):
        fill_fields(template, ROW)


def test_an_unknown_filter_is_named_when_the_recipe_loads():
    with pytest.raises(ValueError, match=r"unknown filter \|leters. Did you mean 'letters'\?"):
        check_fields("{options|leters}")
    with pytest.raises(ValidationError, match="unknown filter"):
        Dataset.Config(path="x", prompt="{options|leters}")


@given(st.text())
def test_data_is_never_a_template(text):
    assert fill_fields("{q} {q}", {"q": text}) == f"{text} {text}"


@pytest.mark.parametrize("subject", ["biology", "chemistry", "material", "physics"])
def test_real_rows(subject):
    rows(f"sciknoweval-{subject}.train")
    here = {
        name: {"path": str(DATA / f"sciknoweval-{name}.test.jsonl"), "in_domain": name == subject}
        for name in ("physics", "biology")
    }
    made = Dataset(
        Dataset.Config(path=str(DATA / f"sciknoweval-{subject}.train.jsonl"), system="{system}", held_out=0, suites=here)
    )
    for problem in made.train_batch(step=0, count=32, seed=0):
        assert problem.answer in "ABCD" and problem.messages[0]["role"] == "system"
        assert "\nA: " in problem.messages[1]["content"]
    assert {name: len(found) for name, found in made.suites(count=1000, seed=0).items()} == {"physics": 80, "biology": 50}
