"""Streamed rows: the same at each index however it is reached, held out by content, shuffled within a buffer."""

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
def test_every_format_gives_the_same_problems_as_a_table(tmp_path, kind):
    path = write(tmp_path, kind)
    problems = stream(path, held_out=0, shuffle=False).train_batch(step=0, count=20, seed=0)
    whole = Dataset(Dataset.Config(path=path, held_out=0, shuffle=False, **FIELDS)).train_batch(step=0, count=20, seed=0)
    assert [(p.messages, p.answer, p.meta) for p in problems] == [(p.messages, p.answer, p.meta) for p in whole]


def test_a_step_is_the_same_whether_reached_in_order_or_at_once(tmp_path):
    path = write(tmp_path, ".jsonl", MANY)
    stream_in_order = stream(path)
    reached = [answers(stream_in_order, step) for step in range(25)]
    assert answers(stream(path), 24) == reached[24] and answers(stream(path), 3) == reached[3]
    assert answers(stream_in_order, 3) == reached[3], "going back works too"
    assert answers(stream(path), 3, seed=1) != reached[3]


def test_each_epoch_has_every_row_once_in_a_new_order(tmp_path):
    dataset = stream(write(tmp_path, ".jsonl", MANY), held_out=0)
    first, second = answers(dataset, 0, 300), answers(dataset, 1, 300)
    assert sorted(first) == sorted(second) == sorted(row["result"] for row in MANY)
    assert first != second and first != [row["result"] for row in MANY]
    assert max(int(answer) for answer in first[:10]) < 60, "a buffer of 50 rows shuffles only those"


def test_held_out_rows_are_never_trained_on_and_equal_rows_are_on_one_side(tmp_path):
    dataset = stream(write(tmp_path, ".jsonl", MANY + MANY), held_out=0.2)
    measured = [p.answer for p in dataset.suites(count=1000, seed=0)["held_out"]]
    trained = {answer for step in range(20) for answer in answers(dataset, step)}
    assert not trained & set(measured) and len(trained) + len(set(measured)) == 300
    assert len(measured) == 2 * len(set(measured)) and 30 < len(set(measured)) < 90
    assert [p.answer for p in dataset.suites(count=7, seed=5)["held_out"]] == measured[:7]


def test_where_limit_and_bad_rows_filter_a_stream(tmp_path):
    path = write(tmp_path, ".jsonl", [*MANY, {"question": None, "result": "x", "level": "odd"}])
    assert {int(answer) % 2 for answer in answers(stream(path, where={"level": "odd"}, limit=150), 0)} == {1}
    assert len(set(answers(stream(path, limit=12, held_out=0), 0))) == 12
    with pytest.raises(RunError, match=r"task.prompt: \{question\} is None"):
        answers(stream(path, held_out=0, shuffle=False), 0, 301)
    assert "x" not in answers(stream(path, held_out=0, shuffle=False, bad_rows="skip"), 0, 301)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"level": "none"}, r"none of the rows of .*The first row is: \{question"),
        ({"levle": "odd"}, r"no row of .*The first row has no 'levle'. Did you mean 'level'\?"),
    ],
)
def test_a_stream_without_matching_rows_is_an_error(tmp_path, where, message):
    with pytest.raises(RunError, match=message):
        answers(stream(write(tmp_path, ".jsonl", ROWS), where=where), 0)


def test_where_may_ask_for_rows_without_a_field(tmp_path):
    table = [ROWS[0], ROWS[1], {**ROWS[2], "late": "yes"}]
    path = write(tmp_path, ".jsonl", table)
    early = Dataset(Dataset.Config(path=path, where={"late": None}, held_out=0, shuffle=False, **FIELDS))
    for task in (early, stream(path, where={"late": None}, held_out=0, shuffle=False)):
        assert answers(task, 0, 2) == ["1", "2"]
    assert answers(stream(path, where={"late": "yes"}, held_out=0, shuffle=False), 0, 2) == ["3", "3"]


def test_a_file_that_breaks_off_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"question": ')
    with pytest.raises(RunError, match=r"task.path: (reading|cannot read) .*rows.jsonl"):
        answers(stream(str(tmp_path / "rows.jsonl"), held_out=0), 0)


def test_a_suite_is_streamed_from_its_start(tmp_path):
    suites = {"other": {"path": write(tmp_path, ".csv", MANY), "streaming": True}}
    dataset = Dataset(Dataset.Config(path=write(tmp_path, ".jsonl"), suites=suites, **FIELDS))
    assert [p.answer for p in dataset.suites(count=3, seed=0)["other"]] == ["0", "1", "2"]
