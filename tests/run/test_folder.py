"""A run's folder: one process at a time, whole files, lines that a crash cut off."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.errors import RunError
from rosd_kit.run.folder import RunFolder

HOLD = """
import sys
from pathlib import Path
from rosd_kit.run.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def note(folder: RunFolder, **now) -> list[str]:
    facts = {"plugins": ["a"], "model": "cafe", "device": "cpu", "threads": 1, "given_components": {}, "run_id": "1"}
    return folder.write_environment(**{**facts, **now})


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path, "run", "rosd")
    yield folder
    folder.close()


def test_a_second_process_is_refused_until_the_first_ends_or_is_killed(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="another process is working in this folder"):
            RunFolder(path)
        other.kill()
    RunFolder(path).close()


def test_the_same_process_is_refused_too(folder):
    with pytest.raises(RunError, match="another process is working"):
        RunFolder(folder.path)
    folder.close()
    RunFolder(folder.path).close()


def test_a_lock_file_of_a_dead_process_locks_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").write_text("1")
    RunFolder.create(tmp_path, "run", "rosd").close()


def test_folders_without_a_name_are_numbered(tmp_path):
    assert [RunFolder.create(tmp_path, None, "rosd").path.name for _ in range(3)] == ["rosd-1", "rosd-2", "rosd-3"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a b", "x" * 101, "a\n"])
def test_invalid_run_names_are_refused(tmp_path, name):
    with pytest.raises(RunError, match="--name"):
        RunFolder.create(tmp_path, name, "rosd")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be created.*--out"):
        RunFolder.create(tmp_path / "file", "run", "rosd")


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        RunFolder.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_becomes_null(folder):
    folder.append("metrics.jsonl", {"step": 1, "a": float("nan"), "b": {"c": [float("inf"), 0.5]}})
    assert folder.read("metrics.jsonl") == [{"step": 1, "a": None, "b": {"c": [None, 0.5]}}]


@given(cut=st.integers(0, 200), last=st.integers(0, 5))
@settings(max_examples=40)
def test_a_line_cut_off_by_a_crash_is_dropped_and_written_again(tmp_path_factory, cut, last):
    folder = RunFolder.create(tmp_path_factory.mktemp("runs"), "run", "rosd")
    for step in range(1, 5):
        folder.append("metrics.jsonl", {"step": step, "text": "über\u2028\n"})
    file = folder.path / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    folder.truncate("metrics.jsonl", last)
    folder.append("metrics.jsonl", {"step": 9})
    assert [record["step"] for record in folder.read("metrics.jsonl")] == [*range(1, min(complete, last) + 1), 9]
    folder.close()


def test_sample_records_keep_any_text(folder):
    folder.write_samples("step-000001", [{"response": "ü\u2028\ud800 <|end|>", "weights": [1.0, float("nan")]}])
    line = (folder.path / "samples/step-000001.jsonl").read_text(encoding="utf-8", errors="surrogatepass")
    assert json.loads(line) == {"response": "ü\u2028\ud800 <|end|>", "weights": [1.0, None]}


def test_a_folder_is_replaced_atomically(folder):
    folder.write_folder("model", lambda path: (path.mkdir(), (path / "old").write_text("1")))

    def fail(path):
        path.mkdir()
        (path / "new").write_text("2")
        raise OSError("broken")

    with pytest.raises(RunError, match="model: cannot be written: broken"):
        folder.write_folder("model", fail)
    assert [path.name for path in (folder.path / "model").iterdir()] == ["old"]
    folder.write_folder("model", lambda path: (path.mkdir(), (path / "new").write_text("2")))
    assert [path.name for path in (folder.path / "model").iterdir()] == ["new"]


def test_the_environment_keeps_the_record_of_the_first_start(folder):
    assert note(folder) == []
    assert note(folder) == []
    assert note(folder, plugins=["a", "b"], model="beef", threads=2) == [
        "plugins: ['a'] -> ['a', 'b']",
        "model: cafe -> beef",
        "threads: 1 -> 2",
    ]
    written = json.loads((folder.path / "environment.json").read_text())
    assert (written["plugins"], written["threads"]) == (["a"], 1)
    assert [later["threads"] for later in written["resumed"]] == [1, 2]
    assert written["versions"]["torch"]


def test_another_version_of_torch_is_reported(folder):
    note(folder)
    file = folder.path / "environment.json"
    facts = json.loads(file.read_text())
    facts["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(facts))
    [change] = note(folder)
    assert change.startswith("versions.torch: 1.0 -> ")


def test_what_a_killed_process_left_half_written_is_removed_and_a_report_being_written_is_not(tmp_path):
    names = (".recipe.yaml.7.writing", ".origins.json.7.writing", ".environment.json.7.writing", ".report.html.7.writing")
    for name in names:
        (tmp_path / name).touch()
    RunFolder(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".report.html.7.writing"]
