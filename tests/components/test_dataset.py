"""The task `dataset`: file formats, templates, splits, and errors about rows that do not fit."""

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
from rosd_kit.recipe import build_components, load_recipe
from tests.components.rows import DATA, rows

ROWS = [{"question": f"What is {i} + 1 ?", "result": str(i + 1), "level": "easy" if i % 2 else "hard"} for i in range(20)]
FIELDS = {"prompt": "{question}", "answer": "{result}"}


def write(folder, kind: str, table=ROWS):
    """Write rows in a file format and return the path."""
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
    problems = task(write(tmp_path, kind)).train_batch(step=0, count=18, seed=0)
    assert sorted(int(p.answer) for p in problems) == sorted({int(p.answer) for p in problems}) and len(problems) == 18
    for problem in problems:
        assert problem.messages == ({"role": "user", "content": f"What is {int(problem.answer) - 1} + 1 ?"},)
        assert problem.solution is None


def test_held_out_rows_are_never_trained_on_and_always_the_same(tmp_path):
    path = write(tmp_path, ".jsonl")
    trained = {p.answer for step in range(6) for p in task(path, held_out=0.25).train_batch(step=step, count=5, seed=3)}
    suites = task(path, held_out=0.25).suites(count=100, seed=0)
    measured = {p.answer for p in suites["held_out"]}
    assert len(trained) == 15 and len(measured) == 5 and not trained & measured
    assert measured == {p.answer for p in task(path, held_out=0.25).suites(count=100, seed=9)["held_out"]}
    assert measured != {p.answer for p in task(path, held_out=0.25, split_seed=1).suites(count=100, seed=0)["held_out"]}


def test_each_epoch_has_every_row_once_in_a_new_order(tmp_path):
    dataset = task(write(tmp_path, ".jsonl"), held_out=0)
    steps = [[p.answer for p in dataset.train_batch(step=step, count=10, seed=0)] for step in range(4)]
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert sorted(first) == sorted(second) == sorted(row["result"] for row in ROWS) and first != second
    assert [p.answer for p in dataset.train_batch(step=3, count=10, seed=0)] == steps[3], "stateless"
    assert [p.answer for p in dataset.train_batch(step=0, count=10, seed=1)] != steps[0]
    straight = task(write(tmp_path, ".jsonl"), held_out=0, shuffle=False)
    assert [p.answer for p in straight.train_batch(step=0, count=20, seed=0)] == [row["result"] for row in ROWS]


def test_a_step_larger_than_the_data_has_unique_ids(tmp_path):
    problems = task(write(tmp_path, ".jsonl"), held_out=0).train_batch(step=1, count=50, seed=0)
    assert len({p.id for p in problems}) == 50


def test_where_and_limit_select_rows(tmp_path):
    easy = task(write(tmp_path, ".jsonl"), where={"level": "easy"}, held_out=0).train_batch(step=0, count=10, seed=0)
    assert all(int(p.answer) % 2 == 0 for p in easy)
    either = task(write(tmp_path, ".jsonl"), where={"level": ["easy", "hard"]}, limit=4, held_out=0, shuffle=False)
    assert [p.answer for p in either.train_batch(step=0, count=4, seed=0)] == ["1", "2", "3", "4"]


def test_suites_have_their_own_rows_and_templates(tmp_path):
    other = write(tmp_path / "..", ".json", [{"ask": "Why ?", "so": "because"}])
    suites = {
        "why": {"path": other, "prompt": "{ask}", "answer": "{so}"},
        "same": {"path": write(tmp_path, ".csv"), "in_domain": True},
    }
    dataset = task(write(tmp_path, ".jsonl"), suites=suites, held_out=0, system="Be brief.")
    measured = dataset.suites(count=3, seed=0)
    assert {name: len(problems) for name, problems in measured.items()} == {"why": 1, "same": 3}
    assert measured["why"][0].messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why ?"})
    assert dataset.in_domain() >= {"same"} and "why" not in dataset.in_domain()


def test_a_suite_needs_no_solution_and_may_drop_the_system_message(tmp_path):
    other = write(tmp_path / "..", ".json", [{"ask": "Why ?", "so": "because"}])
    suites = {"why": {"path": other, "prompt": "{ask}", "answer": "{so}", "system": ""}}
    dataset = task(write(tmp_path, ".jsonl"), suites=suites, system="Be brief.", solution="{question} {result}")
    (problem,) = dataset.suites(count=5, seed=0)["why"]
    assert problem.messages == ({"role": "user", "content": "Why ?"},) and problem.solution is None
    assert all(p.solution and len(p.messages) == 2 for p in dataset.train_batch(step=0, count=3, seed=0))


def test_the_task_offers_solutions_only_with_a_template_for_them(tmp_path):
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
    ("options", "message"),
    [
        (
            {"prompt": "{qestion}"},
            r"task.prompt: \{qestion\}: there is no 'qestion'. Did you mean 'question'\?(.|\n)*The row is \{question: ",
        ),
        ({"answer": "{result.value}"}, r"there is no 'value'"),
        ({"where": {"level": "none"}}, r"task.where: none of the 20 rows .*The first row is: \{question"),
        ({"where": {"levle": "easy"}}, r"The first row has no 'levle'. Did you mean 'level'\?.*: \{question"),
        ({"held_out": 0.99}, r"task.held_out: 0.99 of 20 rows leaves 20 to evaluate on and 0 to train on"),
    ],
)
def test_errors_about_rows_show_a_row(tmp_path, options, message):
    with pytest.raises(RunError, match=message):
        task(write(tmp_path, ".jsonl"), **options).train_batch(step=0, count=1, seed=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": ', "line 2"),
        ("a.jsonl", "[1]\n", r"row 1 of .* is \[1\], not an object"),
        ("a.jsonl", "", "has no rows"),
        ("a.json", '{\n"a": 1}', "contains a dict, not a list of rows or one row per line"),
        ("a.csv", "a,b\n1\n", "differ in their number of cells"),
        ("a.parquet", "nonsense", "cannot read"),
        ("a.txt", "x", "is not one of .jsonl, .json"),
    ],
)
def test_errors_about_unreadable_files_name_the_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=message):
        task(str(tmp_path / name), held_out=0).train_batch(step=0, count=1, seed=0)


def test_several_files_are_one_table(tmp_path):
    for number in (2, 1):
        (tmp_path / f"part{number}.jsonl").write_text(json.dumps({"question": "?", "result": f"{number}"}))
    problems = task(f"{tmp_path}/part*.jsonl", held_out=0, shuffle=False).train_batch(step=0, count=2, seed=0)
    assert [p.answer for p in problems] == ["1", "2"]
    with pytest.raises(RunError, match="no file matches"):
        task(f"{tmp_path}/nothing*.jsonl").train_batch(step=0, count=1, seed=0)


def test_the_split_equals_that_of_datasets(tmp_path):
    path = write(tmp_path, ".jsonl")
    theirs = datasets.Dataset.from_list(ROWS).train_test_split(test_size=0.13, seed=7)
    ours = task(path, held_out=0.13, split_seed=7)
    assert {p.answer for p in ours.suites(count=99, seed=0)["held_out"]} == set(theirs["test"]["result"])
    assert {p.answer for p in ours.train_batch(step=0, count=17, seed=0)} == set(theirs["train"]["result"])


def test_held_out_rows_can_be_evaluated_as_a_named_suite_instead(tmp_path):
    path = write(tmp_path, ".jsonl")
    own = {p.answer for p in task(path, held_out=0.25).suites(count=99, seed=0)["held_out"]}
    dataset = task(path, held_out=0.25, held_out_suite=None, suites={"part": {"path": path, "held_out": 0.25}})
    measured = dataset.suites(count=99, seed=0)
    assert set(measured) == {"part"} and {p.answer for p in measured["part"]} == own and not dataset.in_domain()


def test_a_missing_suite_that_says_how_to_get_it_is_left_out_unless_it_is_the_trained_one(tmp_path, caplog):
    path = write(tmp_path, ".jsonl")
    gone = {"path": str(tmp_path / "gone.jsonl"), "obtain": "Ask the library for it."}
    dataset = task(path, held_out=0.25, suites={"gone": gone, "there": {"path": path}})
    for _ in range(2):
        assert set(dataset.suites(count=3, seed=0)) == {"held_out", "there"}
    assert len(list(dataset.data_files())) == 2
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "suite 'gone' is left out: task.path: there is no file" in warning and "Ask the library for it." in warning
    (tmp_path / "gone.jsonl").write_text((tmp_path / "rows.jsonl").read_text())
    assert set(dataset.suites(count=3, seed=0)) == {"held_out", "there", "gone"}
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(RunError, match=r"suite 'gone' \(task.suites.gone\): task.path: there is no file"):
        task(path, suites={"gone": {**gone, "in_domain": True}}).suites(count=3, seed=0)


def test_errors_about_a_suite_name_it(tmp_path):
    path = write(tmp_path, ".jsonl")
    for suite, message in (
        ({"path": "gone.jsonl"}, "there is no file"),
        ({"path": path, "prompt": "{ask}"}, "there is no 'ask'"),
    ):
        with pytest.raises(RunError, match=rf"suite 'other' \(task.suites.other\): task.*{message}"):
            task(path, suites={"other": suite}).suites(count=1, seed=0)


def test_a_task_without_training_rows_can_be_evaluated(tmp_path):
    dataset = Dataset(Dataset.Config(suites={"all": {"path": write(tmp_path, ".jsonl")}}, **FIELDS))
    assert {name: len(problems) for name, problems in dataset.suites(count=99, seed=0).items()} == {"all": 20}
    with pytest.raises(RunError, match=r"task\.path: there are no rows to train on"):
        dataset.train_batch(step=0, count=1, seed=0)


def test_bad_rows_are_an_error_at_once_or_are_skipped(tmp_path, caplog):
    path = write(tmp_path, ".jsonl", [*ROWS, {"question": None, "result": "x"}])
    with pytest.raises(
        RunError, match=r"1 of 21 rows of .* do not fit. Row 21: task.prompt: \{question\} is None(.|\n)*bad_rows=skip"
    ):
        task(path).suites(count=1, seed=0)
    problems = task(path, bad_rows="skip", held_out=0).train_batch(step=0, count=20, seed=0)
    assert {p.answer for p in problems} == {row["result"] for row in ROWS} and "1 of 21 rows" in caplog.text


def test_a_null_system_message_or_solution_in_a_row_is_left_out(tmp_path):
    table = [
        {"question": "?", "result": "1", "system": None, "how": "so"},
        {"question": "?", "result": "2", "system": "Hm.", "how": None},
    ]
    dataset = task(write(tmp_path, ".jsonl", table), system="{system}", solution="{how}", held_out=0, shuffle=False)
    first, second = dataset.train_batch(step=0, count=2, seed=0)
    assert [len(p.messages) for p in (first, second)] == [1, 2] and (first.solution, second.solution) == ("so", None)


def test_options_are_shuffled_by_their_texts(tmp_path):
    table = [{"question": f"{i}?", "yes": f"right {i}", "no": f"wrong {i}", "never": f"bad {i}"} for i in range(40)]
    options = {"right": "yes", "wrong": ["no", "never"]}
    fields = {"prompt": "{question}\n{options|letters}", "answer": "{right|letter}", "options": options, "held_out": 0}
    problems = task(write(tmp_path, ".jsonl", table), **fields).train_batch(step=0, count=40, seed=0)
    for problem in problems:
        listed = dict(line.split(": ") for line in problem.messages[0]["content"].split("\n")[1:])
        assert listed[problem.answer].startswith("right") and set(listed) == set("ABC")
    assert {p.answer for p in problems} == set("ABC")
    backwards = task(write(tmp_path, ".json", table[::-1]), **fields).train_batch(step=3, count=40, seed=1)
    assert {p.messages[0]["content"] for p in backwards} == {p.messages[0]["content"] for p in problems}
    with pytest.raises(RunError, match=r"task\.options: there is no 'maybe'"):
        task(write(tmp_path, ".csv", table), **{**fields, "options": {**options, "right": "maybe"}}).train_batch(
            step=0, count=1, seed=0
        )


def test_where_takes_nested_mappings_and_excludes_rows_without_the_field(tmp_path):
    table = [*({**row, "details": {"level": row["level"]}} for row in ROWS), {"question": "?", "result": "0"}]
    for where in ({"details.level": "easy"}, {"details": {"level": "easy"}}):
        problems = task(write(tmp_path, ".jsonl", table), where=where, held_out=0).train_batch(step=0, count=10, seed=0)
        assert len({p.answer for p in problems}) == 10 and all(int(p.answer) % 2 == 0 for p in problems)


def test_a_missing_file_is_not_searched_on_the_hub(tmp_path):
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
def test_templates_are_filled(template, expected):
    assert fill_fields(template, ROW) == expected


@pytest.mark.parametrize(
    "template", ["{options}", "{nested}", "{options.5}", "{q|letters}", "{q|letter}", "{q|last}", "{q.upper}", "{n.real}"]
)
def test_templates_that_do_not_fit_the_row_are_an_error(template):
    with pytest.raises(FieldError, match=r"\{"):
        fill_fields(template, ROW)


def test_an_unknown_filter_is_an_error_when_the_recipe_loads():
    with pytest.raises(ValueError, match=r"unknown filter \|leters. Did you mean 'letters'\?"):
        check_fields("{options|leters}")
    with pytest.raises(ValidationError, match="unknown filter"):
        Dataset.Config(path="x", prompt="{options|leters}")


@given(st.text())
def test_braces_in_data_are_plain_text(text):
    assert fill_fields("{q} {q}", {"q": text}) == f"{text} {text}"


@pytest.mark.parametrize(("subject", "size"), [("biology", 500), ("chemistry", 2100), ("material", 935), ("physics", 800)])
def test_the_splits_of_the_papers_are_reproduced(tmp_path, subject, size):
    theirs = {row["idx"] for row in rows(f"sciknoweval-{subject}.test")}
    table = [{"question": "?", "result": str(number)} for number in range(size)]
    ours = task(write(tmp_path, ".jsonl", table)).suites(count=size, seed=0)["held_out"]
    assert {int(p.answer) for p in ours} == theirs


@pytest.mark.parametrize("subject", ["biology", "chemistry", "material", "physics"])
def test_real_rows_become_problems(subject):
    rows(f"sciknoweval-{subject}.train")
    suites = {
        name: {"path": str(DATA / f"sciknoweval-{name}.test.jsonl"), "in_domain": name == subject}
        for name in ("physics", "biology")
    }
    dataset = Dataset(
        Dataset.Config(path=str(DATA / f"sciknoweval-{subject}.train.jsonl"), system="{system}", held_out=0, suites=suites)
    )
    for problem in dataset.train_batch(step=0, count=32, seed=0):
        assert problem.answer in "ABCD" and problem.messages[0]["role"] == "system"
        assert "\nA: " in problem.messages[1]["content"]
    assert {name: len(problems) for name, problems in dataset.suites(count=1000, seed=0).items()} == {
        "physics": 80,
        "biology": 50,
    }


def test_mistakes_in_the_data_are_reported_before_a_model_is_loaded(tmp_path, capsys):
    arguments = [
        "run",
        "rosd",
        "task=dataset",
        f"task.path={write(tmp_path, '.jsonl')}",
        "verifier=exact",
        "demonstration=first_success",
    ]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "model.path=./no_such_model", "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert "task.prompt: {prompt}: there is no 'prompt'. The row has: question, result, level" in capsys.readouterr().err


def test_a_file_of_an_installed_package_is_read_and_counts_as_data():
    path = "package:rosd_kit/data/thirty.jsonl"
    thirty = task(path, prompt="{question}", answer="{answer}", held_out=0)
    assert len({p.messages[0]["content"] for p in thirty.train_batch(step=0, count=30, seed=0)}) == 30
    assert [file.name for file in thirty.data_files()] == ["thirty.jsonl"]


@pytest.mark.parametrize("inside", ["rosd_kit/data/none.jsonl", "no_such_package/a.jsonl", "rosd_kit/../x.py"])
def test_a_file_that_no_package_holds_is_refused(inside):
    with pytest.raises(RunError, match=r"task\.path: 'package:.*(holds no file|no package 'no_such_package' is installed)"):
        task(f"package:{inside}").train_batch(step=0, count=1, seed=0)


def test_the_thirty_rows_are_judged_by_their_preset():
    registry = PluginManager(selection="builtin").registry
    built = build_components(load_recipe("rosd", ["task=thirty"], registry=registry), registry)
    problems = [*built.task.train_batch(step=0, count=20, seed=0), *built.task.suites(count=30, seed=0)["held_out"]]
    assert len({problem.messages[0]["content"] for problem in problems}) == 30
    for problem in problems:
        assert built.verifier.verify(problem, problem.solution or f"The capital is {problem.answer}.").success
        assert not built.verifier.verify(problem, problem.messages[0]["content"]).success
