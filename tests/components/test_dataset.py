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

from rosd_kit.cli import main
from rosd_kit.components.tasks import Dataset
from rosd_kit.data.fields import FieldError, check_fields, fill_fields
from rosd_kit.errors import RecipeError, RunError
from rosd_kit.plugins.manager import PluginManager
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
    elif kind == "-lines.json":
        file.write_text("\n".join(map(json.dumps, table)))
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


@pytest.mark.parametrize("kind", [".jsonl", ".json", "-lines.json", ".csv", ".tsv", ".parquet", ""])
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
        ({"where": {"levle": "easy"}}, r"The first row has no 'levle'. Did you mean 'level'\?.*: \{question"),
        ({"held_out": 0.99}, r"task.held_out: 0.99 of 20 rows leaves 20 to measure on and 0 to train on"),
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
        ("a.json", '{\n"a": 1}', "holds dict, neither a list of rows nor a row on each line"),
        ("a.csv", "a,b\n1\n", "another number of cells"),
        ("a.parquet", "nonsense", "cannot read"),
        ("a.txt", "x", "is none of .jsonl, .json"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=told):
        task(str(tmp_path / name), held_out=0).train_batch(step=0, count=1, seed=0)


def test_several_files_are_one_table(tmp_path):
    for number in (2, 1):
        (tmp_path / f"part{number}.jsonl").write_text(json.dumps({"question": "?", "result": f"{number}"}))
    found = task(f"{tmp_path}/part*.jsonl", held_out=0, shuffle=False).train_batch(step=0, count=2, seed=0)
    assert [p.answer for p in found] == ["1", "2"]
    with pytest.raises(RunError, match="no file fits"):
        task(f"{tmp_path}/nothing*.jsonl").train_batch(step=0, count=1, seed=0)


def test_the_division_is_that_of_datasets(tmp_path):
    path = write(tmp_path, ".jsonl")
    theirs = datasets.Dataset.from_list(ROWS).train_test_split(test_size=0.13, seed=7)
    ours = task(path, held_out=0.13, split_seed=7)
    assert {p.answer for p in ours.suites(count=99, seed=0)["held_out"]} == set(theirs["test"]["result"])
    assert {p.answer for p in ours.train_batch(step=0, count=17, seed=0)} == set(theirs["train"]["result"])


def test_a_suite_may_be_the_held_out_rows_of_another_source_and_the_own_ones_may_go_unmeasured(tmp_path):
    path = write(tmp_path, ".jsonl")
    own = {p.answer for p in task(path, held_out=0.25).suites(count=99, seed=0)["held_out"]}
    found = task(path, held_out=0.25, held_out_suite=None, suites={"part": {"path": path, "held_out": 0.25}})
    measured = found.suites(count=99, seed=0)
    assert set(measured) == {"part"} and {p.answer for p in measured["part"]} == own and not found.in_domain()


def test_what_is_wrong_with_a_suite_names_it(tmp_path):
    path = write(tmp_path, ".jsonl")
    for suite, told in ({"path": "gone.jsonl"}, "there is no file"), ({"path": path, "prompt": "{ask}"}, "there is no 'ask'"):
        with pytest.raises(RunError, match=rf"suite 'other' \(task.suites.other\): task.*{told}"):
            task(path, suites={"other": suite}).suites(count=1, seed=0)


def test_a_task_may_only_measure(tmp_path):
    found = Dataset(Dataset.Config(suites={"all": {"path": write(tmp_path, ".jsonl")}}, **FIELDS))
    assert {name: len(problems) for name, problems in found.suites(count=99, seed=0).items()} == {"all": 20}
    with pytest.raises(RunError, match=r"task\.path: there are no rows to train on"):
        found.train_batch(step=0, count=1, seed=0)


def test_bad_rows_are_told_before_anything_runs_or_left_out(tmp_path, caplog):
    path = write(tmp_path, ".jsonl", [*ROWS, {"question": None, "result": "x"}])
    with pytest.raises(
        RunError, match=r"1 of 21 rows of .* do not fit. Row 21: task.prompt: \{question\} is None(.|\n)*bad_rows=skip"
    ):
        task(path).suites(count=1, seed=0)
    found = task(path, bad_rows="skip", held_out=0).train_batch(step=0, count=20, seed=0)
    assert {p.answer for p in found} == {row["result"] for row in ROWS} and "1 of 21 rows" in caplog.text


def test_a_system_message_or_solution_that_is_null_in_a_row_is_none(tmp_path):
    table = [
        {"question": "?", "result": "1", "system": None, "how": "so"},
        {"question": "?", "result": "2", "system": "Hm.", "how": None},
    ]
    found = task(write(tmp_path, ".jsonl", table), system="{system}", solution="{how}", held_out=0, shuffle=False)
    first, second = found.train_batch(step=0, count=2, seed=0)
    assert [len(p.messages) for p in (first, second)] == [1, 2] and (first.solution, second.solution) == ("so", None)


def test_options_are_mixed_by_their_texts(tmp_path):
    table = [{"question": f"{i}?", "yes": f"right {i}", "no": f"wrong {i}", "never": f"bad {i}"} for i in range(40)]
    options = {"right": "yes", "wrong": ["no", "never"]}
    fields = {"prompt": "{question}\n{options|letters}", "answer": "{right|letter}", "options": options, "held_out": 0}
    found = task(write(tmp_path, ".jsonl", table), **fields).train_batch(step=0, count=40, seed=0)
    for problem in found:
        listed = dict(line.split(": ") for line in problem.messages[0]["content"].split("\n")[1:])
        assert listed[problem.answer].startswith("right") and set(listed) == set("ABC")
    assert {p.answer for p in found} == set("ABC")
    backwards = task(write(tmp_path, ".json", table[::-1]), **fields).train_batch(step=3, count=40, seed=1)
    assert {p.messages[0]["content"] for p in backwards} == {p.messages[0]["content"] for p in found}
    with pytest.raises(RunError, match=r"task\.options: there is no 'maybe'"):
        task(write(tmp_path, ".csv", table), **{**fields, "options": {**options, "right": "maybe"}}).train_batch(
            step=0, count=1, seed=0
        )


def test_where_takes_nested_mappings_and_rows_without_the_field_do_not_fit(tmp_path):
    table = [*({**row, "details": {"level": row["level"]}} for row in ROWS), {"question": "?", "result": "0"}]
    for where in ({"details.level": "easy"}, {"details": {"level": "easy"}}):
        found = task(write(tmp_path, ".jsonl", table), where=where, held_out=0).train_batch(step=0, count=10, seed=0)
        assert len({p.answer for p in found}) == 10 and all(int(p.answer) % 2 == 0 for p in found)


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


@pytest.mark.parametrize(("subject", "size"), [("biology", 500), ("chemistry", 2100), ("material", 935), ("physics", 800)])
def test_the_division_of_the_papers_is_reproduced(tmp_path, subject, size):
    theirs = {row["idx"] for row in rows(f"sciknoweval-{subject}.test")}
    table = [{"question": "?", "result": str(number)} for number in range(size)]
    ours = task(write(tmp_path, ".jsonl", table)).suites(count=size, seed=0)["held_out"]
    assert {int(p.answer) for p in ours} == theirs


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


def test_mistakes_in_the_data_are_told_before_a_model_is_looked_for(tmp_path, capsys):
    words = [
        "run",
        "rosd",
        "task=dataset",
        f"task.path={write(tmp_path, '.jsonl')}",
        "verifier=exact",
        "demonstration=first_success",
    ]
    with pytest.raises(SystemExit) as end:
        main([*words, "model.path=./no_such_model", "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert "task.prompt: {prompt}: there is no 'prompt'. The row has: question, result, level" in capsys.readouterr().err
