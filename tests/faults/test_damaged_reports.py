"""Files of a run that hold something else than they should: the report says which, and shows the rest."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rosd_kit.cli import main
from rosd_kit.report.live import Follower
from rosd_kit.report.page import compact
from rosd_kit.report.reading import RunRecords

ODD = ([], 3, None, "x", {}, [[1]], {"a": {"b": [1]}}, True, -1, float("inf"))
DEEP = "[" * 60_000 + "]" * 60_000 + "\n"


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    changes = ("steps=2", "evaluation.problems=2", "evaluation.samples=1", "samples.every=1")
    return run(tmp_path_factory.mktemp("runs") / "finished", *changes).path


@pytest.fixture
def folder(finished, tmp_path):
    """Return a copy of a run's folder with all that a report reads."""
    return shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("model", "checkpoints"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of a value and of everything in it, of lists only the first two."""
    yield path
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return changed


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["environment.json", "evaluations.jsonl", "metrics.jsonl", "samples/step-000001.jsonl"])
def test_any_value_may_stand_anywhere(folder, name, every):
    """Each place holds one of the odd values in turn, or (slow) every one of them."""
    file = folder / name
    first, *others = file.read_text().splitlines() if name.endswith("jsonl") else [file.read_text()]
    whole = json.loads(first)
    for number, path in enumerate(places(whole)):
        for odd in ODD[number % every :: every]:
            file.write_text("\n".join([json.dumps(with_value(whole, path, odd)), *others]) + "\n")
            follower = Follower(folder)
            compact(follower.update({}))
            compact(follower.details(0, follower.generation))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("metrics.jsonl", '[1]\n{"step": 2}\n', "metrics.jsonl: line 1 left out: it is not an object"),
        ("metrics.jsonl", '3\nnull\n{"step": 1}\n', "metrics.jsonl: line 1-2 left out: it is not an object"),
        ("evaluations.jsonl", '{"step": 0, "results": {}}\n', "evaluations.jsonl: line 1 left out: it has no results"),
        ("samples/step-000001.jsonl", DEEP, "step-000001.jsonl: line 1 left out: it is nested too deep"),
        ("samples/step-000001.jsonl", '{"step": 1, "token_spans": [1]}\n', "step-000001.jsonl: line 1 left out: token_spans.0"),
        ("environment.json", "[1]", "environment.json: holds no JSON object, and is left out"),
        ("recipe.yaml", "- a\n", "recipe.yaml: must be a mapping of fields, for example `steps: 100`; shown as text only"),
        ("recipe.yaml", "a: &a [1]\nb: *a\n", "YAML aliases (*name) are not allowed"),
    ],
)  # fmt: skip
def test_the_command_names_the_file_and_shows_the_rest(folder, capsys, name, content, told):
    (folder / name).write_text(content)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder)])
    assert not ended.value.code and (folder / "report.html").stat().st_size > 10_000
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and told in line


def test_nothing_is_said_of_whole_files(folder):
    said: list[str] = []
    assert RunRecords.read(folder, said.append).metrics and said == []
