"""Rows that cannot be used: named with their place as data is loaded, refused or left out, never a traceback."""

from __future__ import annotations

import json

import pytest

from rosd_kit.cli import main
from rosd_kit.components.tasks import Dataset
from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.run.resume import check_same

GOOD = [{"prompt": f"{i} + 1?", "answer": "AB"[i % 2]} for i in range(12)]


@pytest.fixture(scope="module")
def registry():
    return PluginManager(selection="builtin").registry


def written(folder, *rows, name="rows.jsonl") -> str:
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return str(folder / name)


def task(registry, path, *changes: str) -> Dataset:
    """Return the task of a recipe, which knows its verifier."""
    base = ["task=dataset", f"task.path={path}", "task.held_out=0", "task.shuffle=false", "verifier={name: mcq, letters: ABCD}"]
    made = build_components(load_recipe("grpo", [*base, *changes], registry=registry), registry).task
    assert isinstance(made, Dataset)
    return made


def answers(task: Dataset, count: int) -> list[str]:
    return [problem.answer for problem in task.train_batch(step=0, count=count, seed=0)]


DEEP = json.loads("[" * 200 + "]" * 200)
BAD = {
    "a letter that is no option": ({"prompt": "?", "answer": "E"}, "'E' is not one of the letters ABCD (verifier.letters)"),
    "a digit": ({"prompt": "?", "answer": 2}, "'2' is not one of the letters ABCD"),
    "an empty answer": ({"prompt": "?", "answer": ""}, "'' is not one of the letters"),
    "no answer": ({"prompt": "?", "answer": None}, "{answer} is None, not a text"),
    "a missing answer": ({"prompt": "?"}, "{answer} is None, not a text"),
    "an empty prompt": ({"prompt": " \n", "answer": "A"}, "task.prompt: the text is empty"),
    "a lone surrogate": ({"prompt": "x \ud83d", "answer": "A"}, "holds U+D83D, a lone surrogate, half of a UTF-16 pair"),
    "NUL": ({"prompt": "a\0b", "answer": "A"}, "task.prompt: the text holds U+0000, NUL, at character 1"),
    "a surrogate in the answer": ({"prompt": "?", "answer": "A\udc00"}, "task.answer: the text holds U+DC00"),
    "a prompt without end": ({"prompt": "x" * 5000, "answer": "A"}, "at most 4000 are allowed (task.max_characters)"),
    "deep nesting": ({"prompt": "?", "answer": "A", "more": DEEP}, "'more' is nested deeper than 100 levels"),
}  # fmt: skip


@pytest.mark.parametrize("streaming", ["false", "true"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_by_its_place_or_left_out(registry, tmp_path, caplog, name, streaming):
    row, message = BAD[name]
    path = written(tmp_path, *GOOD[:6], row, *GOOD[6:])
    changes = ["task.max_characters=4000", f"task.streaming={streaming}"]
    with pytest.raises(RunError) as caught:
        answers(task(registry, path, *changes), 12)
    assert message in str(caught.value) and "row 7 of" in str(caught.value) and "task.bad_rows=skip" in str(caught.value)
    kept = answers(task(registry, path, *changes, "task.bad_rows=skip"), 24)
    assert kept == 2 * [row["answer"] for row in GOOD]
    assert message in caplog.text and ("1 of 13 rows" in caplog.text or "left out 1 rows" in caplog.text)


def test_all_bad_rows_are_counted_and_listed(registry, tmp_path):
    path = written(tmp_path, *GOOD, *({"prompt": "?", "answer": "Z"} for _ in range(12)))
    with pytest.raises(RunError, match=r"12 of 24 rows .* Row 13: (.|\n)*So do rows 14, 15, 16, 17, 18, 19, 20, 21 and 3 more"):
        answers(task(registry, path), 1)


def test_rows_of_a_suite_are_checked_by_the_verifier_of_that_suite(registry, tmp_path):
    path, other = written(tmp_path, *GOOD), written(tmp_path, {"prompt": "1 + 1?", "answer": "2"}, name="other.jsonl")
    suites = [f"task.suites.sums={{path: {other}}}", "task.suites.sums.in_domain=false"]
    with pytest.raises(RunError, match=r"suite 'sums' (.|\n)*'2' is not one of the letters"):
        task(registry, path, *suites).suites(count=1, seed=0)
    chosen = "verifier={name: by_suite, default: mcq, suites: {sums: exact}}"
    assert task(registry, path, *suites, chosen).suites(count=1, seed=0)["sums"][0].answer == "2"


def test_a_verifier_without_an_opinion_lets_every_answer_through(registry, tmp_path):
    assert answers(task(registry, written(tmp_path, {"prompt": "?", "answer": ""}), "verifier=majority"), 1) == [""]


def test_a_verifier_that_raises_on_a_right_answer_is_an_error_with_the_row(registry, tmp_path):
    dataset = Dataset(Dataset.Config(path=written(tmp_path, *GOOD), held_out=0))
    dataset.use_gold_check(lambda problem: None if 1 // (problem.answer == "A") else "")
    with pytest.raises(RunError, match=r"'B' makes the verifier's check_gold fail \(ZeroDivisionError(.|\n)*row 2 of"):
        answers(dataset, 1)


def test_a_resumed_run_may_leave_out_the_bad_row_that_stopped_it(registry, tmp_path):
    base = ["task=dataset", f"task.path={written(tmp_path, *GOOD)}", "verifier=mcq", "task.streaming=true"]
    saved = load_recipe("grpo", base, registry=registry)
    check_same(saved, load_recipe("grpo", [*base, "task.bad_rows=skip"], registry=registry), 1)
    with pytest.raises(RunError, match=r"task\.max_characters"):
        check_same(saved, load_recipe("grpo", [*base, "task.max_characters=5"], registry=registry), 1)


def test_a_damaged_column_that_is_not_used_harms_nothing(registry, tmp_path):
    path = written(tmp_path, {"prompt": "?", "answer": "A", "note\udc00": ["\ud800 x"], "n": "\0"})
    (problem,) = task(registry, path).train_batch(step=0, count=1, seed=0)
    assert problem.meta == {"prompt": "?", "answer": "A", "note\ufffd": ["\ufffd x"], "n": "\0"}


def test_a_run_with_a_bad_row_ends_with_a_message(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, *GOOD, {"prompt": "x \ud83d", "answer": "A"})
    with pytest.raises(SystemExit) as ended:
        main(["run", "grpo", "task=dataset", f"task.path={path}", "task.held_out=0", "verifier=mcq", "steps=1"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "a lone surrogate" in error and "row 13 of" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deep.jsonl", "[" * 100_000, "line 1 is not JSON: it is nested too deep"),
        ("deep.json", "[" * 100_000, "nested too deep"),
        ("long.jsonl", '{"prompt": ' + "1" * 5000 + "}", "line 1 is not JSON: Exceeds the limit"),
    ],
)
def test_a_file_that_no_reader_takes_is_an_error_with_its_name(registry, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    for streaming in ("false", "true"):
        with pytest.raises(RunError, match=message):
            answers(task(registry, tmp_path / name, f"task.streaming={streaming}"), 1)
