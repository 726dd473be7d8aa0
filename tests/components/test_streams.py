"""Rows that are streamed: the same at each place whenever they are asked for, held back by content, mixed within a buffer."""

from __future__ import annotations

import json

import pytest

from rosd_kit.components.tasks import Dataset
from rosd_kit.errors import RunError
from tests.components.test_dataset import FIELDS, ROWS, write

MANY = [{"question": f"{i} ?", "result": str(i), "level": "odd" if i % 2 else "even"} for i in range(300)]


def stream(path: str, **options) -> Dataset:
    return Dataset(Dataset.Config(path=path, streaming=True, **{**FIELDS, "shuffle_buffer": 50, **options}))


def answers(task: Dataset, step: int, count: int = 30, seed: int = 0) -> list[str]:
    return [p.answer for p in task.train_batch(step=step, count=count, seed=seed)]


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_problems_as_at_once(tmp_path, kind):
    path = write(tmp_path, kind)
    found = stream(path, held_out=0, shuffle=False).train_batch(step=0, count=20, seed=0)
    whole = Dataset(Dataset.Config(path=path, held_out=0, shuffle=False, **FIELDS)).train_batch(step=0, count=20, seed=0)
    assert [(p.messages, p.answer, p.meta) for p in found] == [(p.messages, p.answer, p.meta) for p in whole]


def test_a_step_is_the_same_whether_it_is_reached_or_jumped_to(tmp_path):
    path = write(tmp_path, ".jsonl", MANY)
    going = stream(path)
    reached = [answers(going, step) for step in range(25)]
    assert answers(stream(path), 24) == reached[24] and answers(stream(path), 3) == reached[3]
    assert answers(going, 3) == reached[3], "backwards too"
    assert answers(stream(path), 3, seed=1) != reached[3]


def test_each_epoch_shows_every_row_once_in_another_order(tmp_path):
    found = stream(write(tmp_path, ".jsonl", MANY), held_out=0)
    first, second = answers(found, 0, 300), answers(found, 1, 300)
    assert sorted(first) == sorted(second) == sorted(row["result"] for row in MANY)
    assert first != second and first != [row["result"] for row in MANY]
    assert max(int(answer) for answer in first[:10]) < 60, "a buffer of 50 rows mixes only those"


def test_rows_held_back_are_never_trained_on_and_equal_rows_are_on_one_side(tmp_path):
    found = stream(write(tmp_path, ".jsonl", MANY + MANY), held_out=0.2)
    measured = [p.answer for p in found.suites(count=1000, seed=0)["held_out"]]
    trained = {answer for step in range(20) for answer in answers(found, step)}
    assert not trained & set(measured) and len(trained) + len(set(measured)) == 300
    assert len(measured) == 2 * len(set(measured)) and 30 < len(set(measured)) < 90
    assert [p.answer for p in found.suites(count=7, seed=5)["held_out"]] == measured[:7]


def test_where_limit_and_bad_rows(tmp_path):
    path = write(tmp_path, ".jsonl", [*MANY, {"question": None, "result": "x", "level": "odd"}])
    assert {int(answer) % 2 for answer in answers(stream(path, where={"level": "odd"}, limit=150), 0)} == {1}
    assert len(set(answers(stream(path, limit=12, held_out=0), 0))) == 12
    with pytest.raises(RunError, match=r"task.prompt: \{question\} is None"):
        answers(stream(path, held_out=0, shuffle=False), 0, 301)
    assert "x" not in answers(stream(path, held_out=0, shuffle=False, bad_rows="skip"), 0, 301)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"level": "none"}, r"none of the rows of .*The first row is: \{question"),
        ({"levle": "odd"}, r"no row of .*The first row has no 'levle'. Did you mean 'level'\?"),
    ],
)
def test_a_stream_without_rows_that_fit_is_an_error(tmp_path, where, told):
    with pytest.raises(RunError, match=told):
        answers(stream(write(tmp_path, ".jsonl", ROWS), where=where), 0)


def test_a_file_that_breaks_off_is_told(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"question": ')
    with pytest.raises(RunError, match=r"task.path: (reading|cannot read) .*rows.jsonl"):
        answers(stream(str(tmp_path / "rows.jsonl"), held_out=0), 0)


def test_a_suite_is_streamed_from_its_beginning(tmp_path):
    suites = {"other": {"path": write(tmp_path, ".csv", MANY), "streaming": True}}
    found = Dataset(Dataset.Config(path=write(tmp_path, ".jsonl"), suites=suites, **FIELDS))
    assert [p.answer for p in found.suites(count=3, seed=0)["other"]] == ["0", "1", "2"]
