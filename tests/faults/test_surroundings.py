"""Where a run is started and what happens to it there: folders, clocks, terminals, interrupts."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from rosd_kit.run.folder import RunFolder
from tests.faults.harness import CHANGES, Harness, started

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


@pytest.fixture(scope="module")
def harness(tmp_path_factory) -> Iterator[Harness]:
    with started(tmp_path_factory.mktemp("surroundings") / "runs") as found:
        yield found


@pytest.fixture(scope="module")
def whole(harness) -> str:
    harness.whole("whole")
    return "whole"


def test_relative_paths_with_spaces_and_unicode(harness, whole):
    desk = harness.runs.parent / "mein Tisch – 机"
    (desk / "Rezepte für mich").mkdir(parents=True)
    (desk / "Rezepte für mich/mein rosd.yaml").write_text("extends: rosd\nname: rosd\n")
    names = ("--out", "../runs", "--name", "unicode")
    begin = {"args": ["run", "Rezepte für mich/mein rosd.yaml", *CHANGES, "steps=2", *names], "cwd": str(desk)}
    again = {"args": ["run", "--resume", "../runs/unicode", "steps=3"], "cwd": str(desk)}
    for done in harness.do(begin, again):
        assert done["code"] == 0, done["told"]
    harness.assert_same("unicode", whole)
    out = {"args": ["run", "rosd", *CHANGES, "steps=1", "--out", "läufe hier", "--name", "eins"], "cwd": str(desk)}
    [done] = harness.do(out)
    assert done["code"] == 0 and (desk / "läufe hier/eins/model/model.safetensors").is_file(), done["told"]


def test_a_clock_that_steps_back_changes_nothing(harness, whole):
    harness.whole("clock", clock=3600)
    harness.assert_same("clock", whole)
    for line in harness.lines("clock", "metrics.jsonl"):
        assert all(value >= 0 for name, value in line.items() if name.startswith("time/"))


def test_one_interrupt_finishes_the_step_and_saves(harness, whole):
    [stopped] = harness.do(harness.begin("interrupted", interrupts={"2": 1}))
    assert stopped["code"] == 0, stopped["told"]
    assert "stopped after step 2" in stopped["told"] and "--resume" in stopped["told"]
    assert [path.name for path in (harness.runs / "interrupted/checkpoints").iterdir()] == ["step-000002"]
    harness.finish("interrupted")
    harness.assert_same("interrupted", whole)


def test_two_interrupts_stop_at_once_and_nothing_saved_is_lost(harness, whole):
    [stopped] = harness.do(harness.begin("interrupted-twice", interrupts={"2": 2}))
    assert stopped["code"] == 130, stopped["told"]
    assert "Traceback" not in stopped["told"]
    assert [path.name for path in (harness.runs / "interrupted-twice/checkpoints").iterdir()] == ["step-000001"]
    harness.finish("interrupted-twice")
    harness.assert_same("interrupted-twice", whole)


def test_a_folder_that_another_run_holds_is_refused_and_stays_as_it_is(harness, whole):
    before = (harness.runs / whole / "metrics.jsonl").read_bytes()
    held = RunFolder(harness.runs / whole)
    try:
        resumed, begun = harness.do(harness.go_on(whole), harness.begin(whole))
    finally:
        held.close()
    for refused in (resumed, begun):
        assert refused["code"] == 2
        assert re.search(r"error: .*whole.*(another process|in use|held)", refused["told"]), refused["told"]
    assert (harness.runs / whole / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told(harness):
    [refused] = harness.do({"args": ["run", "rosd", *CHANGES, "--out", "/proc/none", "--name", "x"]})
    assert refused["code"] == 2
    assert re.search(r"error: /proc/none/x: cannot be made: .*--out", refused["told"]), refused["told"]


def test_without_a_terminal_there_are_no_escapes(harness, whole):
    [done] = harness.do(harness.begin("no-terminal", quiet=False))
    assert done["code"] == 0, done["told"]
    assert "\x1b" not in done["told"] and "\r" not in done["told"]
    assert "step 3" in done["told"] or "3/3" in done["told"]


@pytest.mark.parametrize("columns", [30, 80])
def test_in_a_terminal_no_line_is_wider_than_it(harness, columns):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                some = os.read(ours, 1 << 16)
            except OSError:
                return
            if not some:
                return
            shown.append(some)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    surroundings = {
        "TERM": "xterm-256color",
        "COLUMNS": None,
        "LINES": None,
        "NO_COLOR": None,
        "CI": None,
        "PYTHONWARNINGS": "ignore",
    }
    [done] = harness.do(
        harness.begin(f"terminal-{columns}", quiet=False, terminal=os.ttyname(theirs), environment=surroundings)
    )
    os.close(theirs)
    reader.join(timeout=20)
    os.close(ours)
    text = b"".join(shown).decode("utf-8", "replace")
    assert done["code"] == 0, text
    lines = [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)) if "Warning" not in line and "return " not in line]
    assert "\x1b[" in text, "nothing was drawn"
    drawn = [line for line in lines if not line.startswith(("operations:", "/", "[transformers]"))]
    assert max(map(cell_len, drawn)) <= columns, [line for line in drawn if cell_len(line) > columns]


def test_without_a_home(tmp_path):
    command = [
        sys.executable,
        "-m",
        "rosd_kit",
        "run",
        "rosd",
        *CHANGES,
        "steps=1",
        "--out",
        str(tmp_path),
        "--name",
        "run",
        "--quiet",
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "HOME": "/nonexistent",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/model/model.safetensors").is_file()
