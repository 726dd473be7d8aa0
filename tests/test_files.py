"""Files as every part of the kit reads and writes them."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import pytest

from rosd_kit.errors import EngineError, RunError
from rosd_kit.files import explain_write_errors, lock_file, read_json_lines, write_atomically

HOLD = """
import sys, pathlib, rosd_kit.files
lock = rosd_kit.files.lock_file(pathlib.Path(sys.argv[1]))
print(1, flush=True)
input()
"""


@pytest.fixture
def lines(tmp_path):
    """Write a file of lines."""

    def write(text):
        (tmp_path / "lines.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
        return tmp_path / "lines.jsonl"

    return write


def test_each_line_is_a_value_and_blank_lines_are_none(lines):
    file = lines('\ufeff{"a": "ü\u2028\ud800"}\r\n\n  \n[1]\n2')
    assert list(read_json_lines(file)) == [{"a": "ü\u2028\ud800"}, [1], 2]


@pytest.mark.parametrize("damaged", ["raise", "drop_end"])
def test_a_damaged_line_is_an_error_that_names_file_and_line(lines, damaged):
    file = lines('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(RunError, match=r"lines\.jsonl: line 2 is not JSON: .*\. Mend or delete"):
        list(read_json_lines(file, damaged=damaged))
    assert list(read_json_lines(file, damaged="skip")) == [{"step": 1}, {"step": 3}]


def test_a_line_that_a_crash_cut_off_is_left_out_where_asked(lines):
    file = lines('{"step": 1}\n{"st')
    assert list(read_json_lines(file, damaged="drop_end")) == [{"step": 1}]
    assert list(read_json_lines(file, damaged="skip")) == [{"step": 1}]
    with pytest.raises(RunError, match="line 2"):
        list(read_json_lines(file))
    file = lines('{"step": 1}\n{"step": 12}')  # without its newline, the next record would be appended to it
    assert list(read_json_lines(file, damaged="drop_end")) == [{"step": 1}]


def test_a_file_is_written_whole(tmp_path):
    file = tmp_path / "text"
    write_atomically(file, ["old"])
    write_atomically(file, (part for part in ("ü", "\ud800", "\n")), sync=True)
    assert file.read_text(encoding="utf-8", errors="surrogatepass") == "ü\ud800\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    file = tmp_path / "text"
    file.write_text("old")

    def parts():
        yield from repeat("x" * 1000, 100)
        raise error

    with pytest.raises(type(error)):
        write_atomically(file, parts())
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_a_write_error_says_what_why_and_the_remedy():
    message = r"^a: cannot be written: the disk is full\. Make room\.$"
    with pytest.raises(EngineError, match=message), explain_write_errors("a:", "Make room.", EngineError):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    missing = r"^b: cannot be written: there is no folder 'nowhere/deep'\. Choose another\.$"
    with pytest.raises(RunError, match=missing), explain_write_errors("b:", "Choose another."):
        write_atomically(Path("nowhere/deep/x.html"), ["text"])
    with pytest.raises(ValueError, match="other"), explain_write_errors("a:", "Make room."):
        raise ValueError("other")


def test_a_lock_is_refused_at_once_and_goes_with_its_process(tmp_path):
    file = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(BlockingIOError):
            lock_file(file)
        holder.kill()
        with lock_file(file, wait=True), pytest.raises(BlockingIOError):
            lock_file(file, required=True)
    lock_file(file, required=True).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_refuses_only_a_lock_that_is_required(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_file(tmp_path / "lock"), lock_file(tmp_path / "lock", wait=True):
        pass
    with pytest.raises(OSError, match="no locks here"):
        lock_file(tmp_path / "lock", required=True)


def test_every_other_error_of_a_lock_is_raised(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken"):
        lock_file(tmp_path / "lock")
