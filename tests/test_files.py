"""Files as every part of the kit reads and writes them."""

from __future__ import annotations

import pytest

from rosd_kit.errors import RunError
from rosd_kit.files import read_json_lines


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
