"""Runs in unusual surroundings: folders, clocks, terminals, interrupts."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from rosd_kit.run.folder import RunFolder
from tests.faults.harness import CHANGES, Harness, started

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


@pytest.fixture(scope="module")
def harness(tmp_path_factory) -> Iterator[Harness]:
    """A process that has been without a home folder since before its first import, as are the runs that it forks."""
    variables = ("PATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
    homeless = {
        **{name: os.environ[name] for name in variables},
        "HOME": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with started(tmp_path_factory.mktemp("surroundings") / "runs", environment=homeless) as harness:
        yield harness


@pytest.fixture(scope="module")
def undisturbed(harness) -> str:
    harness.run_undisturbed("undisturbed")
    return "undisturbed"


def test_relative_paths_may_have_spaces_and_unicode(harness, undisturbed):
    desk = harness.runs.parent / "mein Tisch – 机"
    (desk / "Rezepte für mich").mkdir(parents=True)
    (desk / "Rezepte für mich/mein rosd.yaml").write_text("extends: rosd\nname: rosd\n")
    names = ("--out", "../runs", "--name", "unicode")
    start = {"args": ["run", "Rezepte für mich/mein rosd.yaml", *CHANGES, "steps=2", *names], "cwd": str(desk)}
    resume = {"args": ["run", "--resume", "../runs/unicode", "steps=3"], "cwd": str(desk)}
    for result in harness.do(start, resume):
        assert result["code"] == 0, result["output"]
    harness.assert_same("unicode", undisturbed)
    out = {"args": ["run", "rosd", *CHANGES, "steps=1", "--out", "läufe hier", "--name", "eins"], "cwd": str(desk)}
    [result] = harness.do(out)
    assert result["code"] == 0 and (desk / "läufe hier/eins/model/model.safetensors").is_file(), result["output"]


def test_a_clock_that_runs_backwards_changes_nothing(harness, undisturbed):
    harness.run_undisturbed("clock", clock=3600)
    harness.assert_same("clock", undisturbed)
    for line in harness.lines("clock", "metrics.jsonl"):
        assert all(value >= 0 for name, value in line.items() if name.startswith("time/"))


def test_one_interrupt_finishes_the_step_and_saves(harness, undisturbed):
    [stopped] = harness.do(harness.start("interrupted", interrupts={"2": 1}))
    assert stopped["code"] == 130, stopped["output"]
    assert "stopped after step 2" in stopped["output"] and "--resume" in stopped["output"]
    assert [path.name for path in (harness.runs / "interrupted/checkpoints").iterdir()] == ["step-000002"]
    harness.finish("interrupted")
    harness.assert_same("interrupted", undisturbed)


def test_two_interrupts_stop_at_once_without_losing_checkpoints(harness, undisturbed):
    [stopped] = harness.do(harness.start("interrupted-twice", interrupts={"2": 2}))
    assert stopped["code"] == 130, stopped["output"]
    assert "Traceback" not in stopped["output"]
    assert [path.name for path in (harness.runs / "interrupted-twice/checkpoints").iterdir()] == ["step-000001"]
    harness.finish("interrupted-twice")
    harness.assert_same("interrupted-twice", undisturbed)


def test_a_folder_that_another_run_uses_is_refused_and_unchanged(harness, undisturbed):
    before = (harness.runs / undisturbed / "metrics.jsonl").read_bytes()
    folder = RunFolder(harness.runs / undisturbed)
    try:
        results = harness.do(harness.resume(undisturbed), harness.start(undisturbed))
    finally:
        folder.close()
    for refused in results:
        assert refused["code"] == 2
        assert re.search(r"error: .*undisturbed.*(another process|in use|held)", refused["output"]), refused["output"]
    assert (harness.runs / undisturbed / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_created_is_an_error(harness):
    [refused] = harness.do({"args": ["run", "rosd", *CHANGES, "--out", "/proc/none", "--name", "x"]})
    assert refused["code"] == 2
    assert re.search(r"error: /proc/none/x: cannot be created: .*--out", refused["output"]), refused["output"]


def test_without_a_terminal_there_are_no_escape_sequences(harness, undisturbed):
    [result] = harness.do(harness.start("no-terminal", "steps=1", quiet=False))
    assert result["code"] == 0, result["output"]
    assert "\x1b" not in result["output"] and "\r" not in result["output"]
    assert "step 1" in result["output"] or "1/1" in result["output"]


@pytest.mark.parametrize("columns", [30, 80])
def test_no_line_is_wider_than_the_terminal(harness, columns):
    reader_fd, terminal_fd = pty.openpty()
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    output: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(reader_fd, 1 << 16)
            except OSError:
                return
            if not data:
                return
            output.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    environment = {
        "TERM": "xterm-256color",
        "COLUMNS": None,
        "LINES": None,
        "NO_COLOR": None,
        "CI": None,
        "PYTHONWARNINGS": "ignore",
    }
    [result] = harness.do(
        harness.start(f"terminal-{columns}", "steps=2", quiet=False, terminal=os.ttyname(terminal_fd), environment=environment)
    )
    os.close(terminal_fd)
    reader.join(timeout=60)
    os.close(reader_fd)
    text = b"".join(output).decode("utf-8", "replace")
    assert result["code"] == 0, text
    lines = [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)) if "Warning" not in line and "return " not in line]
    assert "\x1b[" in text, "nothing was drawn"
    copied = ("run folder: ", "  rosd-kit ")  # are not broken: a line break would be copied with them
    drawn = [line for line in lines if not line.startswith(("operations:", "/", "[transformers]", *copied))]
    assert max(map(cell_len, drawn)) <= columns, [line for line in drawn if cell_len(line) > columns]


def test_a_run_needs_no_home_folder(harness):
    nowhere = {"XDG_CONFIG_HOME": None, "XDG_STATE_HOME": None}
    [result] = harness.do(harness.start("homeless", "steps=1", environment=nowhere))
    assert result["code"] == 0, result["output"]
    assert (harness.runs / "homeless/model/model.safetensors").is_file()
