"""Errors that nobody expected: one line on stderr, and the traceback in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from rosd_kit import cli
from rosd_kit.plugins.report import PluginReport
from rosd_kit.run.folder import RunFolder


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.fixture
def fails(monkeypatch, tmp_path, capsys):
    """Return a function that lets the command line fail; it returns the line on stderr and the file that it names."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def fails(error, folder=None):
        def raises(manager):
            run = RunFolder(folder) if folder else None
            try:
                raise error
            finally:
                if run:
                    run.close()

        monkeypatch.setattr(cli, "build_app", raises)
        with pytest.raises(SystemExit) as ended:
            cli.main(["components"])
        assert ended.value.code == 1
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and "Traceback" not in line and "Please report this" in line
        return line, Path(line.rsplit(" in ", 1)[1].strip())

    return fails


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "error: KeyError: 'x'. Please"),
        (RecursionError("too deep"), "error: RecursionError: too deep. Please"),
        (MemoryError(), "error: MemoryError. Please"),
        (ValueError("two\nlines \ud800"), "error: ValueError: two lines \\ud800. Please"),
        (OSError(71, "Protocol error", "a" * 5000), " .... Please"),
        (Unspeakable(), "error: Unspeakable: (it cannot be written as text). Please"),
    ],
)
def test_an_unexpected_error_is_one_line_and_its_traceback_among_the_users_state_files(fails, tmp_path, error, said):
    line, file = fails(error)
    assert said in line and len(line) < 1000
    assert file.parent == tmp_path / "state/rosd-kit"
    assert "in raises" in file.read_text() and "rosd-kit" in file.read_text()


def test_the_line_names_the_component_at_fault(fails):
    error = TypeError("no")
    error.add_note("raised in gate 'mine', of plugin mine.py")
    assert fails(error)[0].startswith("error: TypeError: no; raised in gate 'mine', of plugin mine.py. Please report this")


def test_the_traceback_of_a_run_is_in_its_folder_unless_that_holds_no_run(fails, tmp_path):
    folder = tmp_path / "runs/x"
    folder.mkdir(parents=True)
    assert fails(KeyError("x"), folder)[1].parent == tmp_path / "state/rosd-kit"
    (folder / "recipe.yaml").write_text("name: x")
    assert fails(KeyError("x"), folder)[1].parent == folder


def test_without_a_folder_for_it_the_traceback_is_printed(monkeypatch, capsys):
    from rosd_kit.cli import crashes

    monkeypatch.setattr(crashes, "_folders", lambda error: [Path("/proc/none")])
    assert crashes.explain_crash(KeyError("x")) == "error: KeyError: 'x'. Please report this, with the traceback above."
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_an_error_of_a_plugin_shows_the_plugins_own_frames_and_names_no_fault_of_ours(tmp_path, monkeypatch):
    from rosd_kit.cli import crashes

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "mine.py"
    file.write_text("def outer(case):\n    return inner(case)\n\n\ndef inner(case):\n    return case.missing\n")
    names: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    report = PluginReport(name="mine", distribution="file", version="-", file=str(file))
    with pytest.raises(AttributeError) as caught:
        names["outer"](object())
    first, *rest = crashes.explain_crash(caught.value, [report]).splitlines()
    assert first == "error: AttributeError: 'object' object has no attribute 'missing'"
    assert rest[:4] == [f"  {file}:2, in outer", "    return inner(case)", f"  {file}:6, in inner", "    return case.missing"]
    assert rest[4].startswith(f"The whole traceback is in {tmp_path / 'state'}") and len(rest) == 5


def test_at_most_ten_lines_are_said_of_a_plugins_error(tmp_path, monkeypatch):
    from rosd_kit.cli import crashes

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "deep.py"
    file.write_text("def down(n):\n    return down(n - 1) if n else 1 / 0\n")
    names: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    report = PluginReport(name="deep", distribution="file", version="-", file=str(file))
    with pytest.raises(ZeroDivisionError) as caught:
        names["down"](50)
    assert len(crashes.explain_crash(caught.value, [report]).splitlines()) <= 10
