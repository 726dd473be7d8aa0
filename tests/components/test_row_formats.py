"""The same rows give the same problems from every kind of file and reader."""

from __future__ import annotations

import csv
import json

import datasets
import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rosd_kit.components.tasks import Dataset
from rosd_kit.data.rows import plain_row
from rosd_kit.data.source import Source, load_hub
from rosd_kit.data.streams import Stream, hub_rows
from rosd_kit.errors import RunError

TYPED = (".jsonl", ".json", "-lines.json", ".parquet", "saved")
TEXT = (".csv", ".tsv")
FIELDS = {
    "system": "{note}",
    "prompt": "{question} {n} {flag} {day} {tools|json} {list|json}\n{choices|letters}",
    "answer": "{answer}",
    "solution": "{how.text}",
}


def save(folder, kind, rows) -> str:
    """Write rows as a kind of file and return its path."""
    file = folder / f"rows{kind}"
    if kind in (".jsonl", "-lines.json"):
        file.write_text("\n".join(map(json.dumps, rows)))
    elif kind == ".json":
        file.write_text(json.dumps(rows))
    elif kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(file))
    else:
        with file.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return str(file)


def problems(path, count, **options):
    task = Dataset(Dataset.Config(**{"held_out": 0, "shuffle": False, **FIELDS, **options, "path": path}))
    return [(p.messages, p.answer, p.solution, p.meta) for p in task.train_batch(step=0, count=count, seed=0)]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
numbers = st.integers(-(2**52), 2**52) | st.floats(allow_nan=False, allow_infinity=False, width=32).map(float)


@st.composite
def tables(draw):
    """Rows whose nested dicts have different keys in different orders, with and without numbers, nulls and empty texts."""
    row = st.fixed_dictionaries(
        {
            "question": words.filter(str.strip),
            "n": st.integers(-(2**52), 2**52),
            "flag": st.booleans(),
            "day": st.dates().map(str) | st.sampled_from(["2024-05-01T10:00:00", "007", "1e5", "NA", "None", "true"]),
            "list": st.lists(st.lists(numbers, max_size=2), max_size=2),
            "choices": st.fixed_dictionaries({"text": st.lists(words, min_size=2, max_size=2), "label": st.just(["1", "2"])}),
            "tools": st.permutations(["a", "b", "c"]).flatmap(
                lambda names: st.fixed_dictionaries({name: numbers | st.none() for name in names[:2]})
            ),
            "answer": words,
        },
        optional={"note": st.sampled_from([None, "", "hm"]), "how": st.sampled_from([None, {"text": "so"}, {"text": None}])},
    )
    # writers of Arrow take the columns of the first row
    return [{**draw(row), "note": "n", "how": {"text": "as"}}, *draw(st.lists(row, min_size=1, max_size=3))]


@given(tables())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_reader_gives_the_same_prompts_answers_and_solutions(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    expected = problems(save(folder, ".jsonl", rows), len(rows))
    for kind in TYPED:
        path = save(folder, kind, rows)
        assert problems(path, len(rows)) == expected, kind
        assert problems(path, len(rows), streaming=True) == expected, f"{kind} streamed"


@pytest.mark.parametrize("kind", [*TYPED, *TEXT])
@pytest.mark.parametrize("streaming", [False, True])
def test_text_stays_what_it_is_and_numbers_lose_an_added_fraction(tmp_path, kind, streaming):
    texts = ["007", "1e5", "NA", "None", "null", "true", "1.0", "2024-05-01", "2024-05-01T10:00:00", " x ", "nan", "-"]
    rows = [{"id": number, "size": 2.5 if number else 3, "text": text, "none": ""} for number, text in enumerate(texts)]
    path = save(tmp_path, kind, rows)
    fields = {"prompt": "{id} {size} <{text}> <{none}>", "answer": "{text}", "system": "{none}", "solution": None}
    made = problems(path, len(rows), streaming=streaming, **fields)
    assert [(messages[-1]["content"], answer) for messages, answer, _, _ in made] == [
        (f"{number} {2.5 if number else 3} <{text}> <>", text) for number, text in enumerate(texts)
    ]
    assert all(len(messages) == 1 for messages, *_ in made), "an empty system message is none"


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("streaming", [False, True])
def test_what_the_hub_loader_infers_is_undone(tmp_path, kind, streaming):
    """A hub data set of plain files goes through the readers of `datasets`, which take texts for numbers, dates and null."""
    texts = ["2024-05-01", "2024-06-01"] if kind == ".jsonl" else ["007", "NA", "1e5", "true", ""]
    rows = [{"text": text, "n": number} for number, text in enumerate(texts)]
    save(tmp_path, kind, rows)
    source = Source(path=str(tmp_path))
    if streaming:
        stream = Stream(source.model_copy(update={"streaming": True}), held_out=0.0, split_seed=0)
        stream._open = lambda: hub_rows(source)  # type: ignore[method-assign]
        read = [row for _, row in stream.draw(0, len(rows), 0)]
    else:
        read = [plain_row(row) for row in load_hub(source, streaming=False)]
    assert [row["text"] for row in read] == texts
    assert [str(row["n"]) for row in read] == [str(row["n"]) for row in rows]


def test_a_stream_and_a_table_hold_out_the_same_content_from_every_file(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": str(i), "extra": {"a": 1} if i % 2 else {"b": 2.0}} for i in range(60)]
    rows = [row if i % 3 or not i else {key: row[key] for key in ("prompt", "answer")} for i, row in enumerate(rows)]
    held = []
    for kind in TYPED:
        task = Dataset(Dataset.Config(path=save(tmp_path, kind, rows), streaming=True, held_out=0.3))
        held.append([p.answer for p in task.suites(count=99, seed=0)["held_out"]])
    assert len(held[0]) > 5 and all(answers == held[0] for answers in held)


@pytest.mark.parametrize("streaming", [False, True])
def test_numbers_of_single_precision_are_as_short_as_they_were_written(tmp_path, streaming):
    kinds = {"x": pyarrow.float32(), "list": pyarrow.list_(pyarrow.float16()), "d": pyarrow.struct([("y", pyarrow.float32())])}
    rows = [{"x": 0.1, "list": [0.1, None, 2.0], "d": {"y": 3.3}}, {"x": None, "list": None, "d": None}]
    halves = [{**row, "list": row["list"] and [value and numpy.float16(value) for value in row["list"]]} for row in rows]
    table = pyarrow.Table.from_pylist(halves, schema=pyarrow.schema({"prompt": pyarrow.string(), **kinds}))
    table = table.set_column(0, "prompt", pyarrow.array(["p", "q"]))
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    datasets.Dataset(table).save_to_disk(str(tmp_path / "saved"))
    for path in ("rows.parquet", "saved"):
        fields = {"prompt": "{prompt}", "answer": "{prompt}", "system": None, "solution": None}
        first, second = problems(str(tmp_path / path), 2, streaming=streaming, **fields)
        assert first[-1] == {"prompt": "p", "x": 0.1, "list": [0.1, None, 2], "d": {"y": 3.3}}, path
        assert second[-1] == {"prompt": "q", "x": None, "list": None, "d": None}


def test_a_column_that_is_named_twice_is_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text("question,answer,answer\n1,2,3\n")
    with pytest.raises(RunError, match="its header names the column 'answer' twice"):
        problems(str(tmp_path / "rows.csv"), 1)


def test_a_format_that_was_saved_with_the_data_changes_nothing(tmp_path):
    rows = [{"prompt": "a", "answer": 1, "v": [1.5, 2.0]}, {"prompt": "b", "answer": 2, "v": [1.0]}]
    datasets.Dataset.from_list(rows).with_format("numpy").save_to_disk(str(tmp_path / "saved"))
    fields = {"system": None, "solution": None, "prompt": "{prompt} {v|json}", "answer": "{answer}"}
    assert problems(str(tmp_path / "saved"), 2, **fields) == problems(save(tmp_path, ".jsonl", rows), 2, **fields)
