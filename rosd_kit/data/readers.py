"""Reads one file of rows, a row at a time: JSON lines, JSON, CSV, TSV or Parquet. Knows no templates."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rosd_kit.data.arrow import shortener
from rosd_kit.data.rows import Row, plain_row
from rosd_kit.errors import RunError, shortened
from rosd_kit.files import read_json_lines

#: The numbers of a file's rows, from 1, and what is there.
Numbered = Iterator[tuple[int, object]]


def read_file(file: Path) -> Iterator[Row]:
    """Yield the rows of a file in plain form. Raises `RunError` with the place if it cannot be read."""
    for number, values in _numbered(file):
        if not isinstance(values, Mapping):
            raise RunError(f"task.path: row {number} of {file} is {shortened(values, 60)}, not an object with named fields.")
        yield plain_row(values, str(file), number)


def _numbered(file: Path) -> Numbered:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise RunError(f"task.path: {file} is not one of {', '.join(SUFFIXES)}.")
    try:
        yield from reader(file)
    except RunError as error:
        raise RunError(f"task.path: cannot read {error}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"task.path: {file} is not UTF-8: {error}") from error
    except RecursionError as error:
        raise RunError(f"task.path: cannot read {file}: it is nested too deep") from error
    except (ValueError, OSError, csv.Error) as error:
        raise RunError(f"task.path: cannot read {file}: {error}") from error


def _read_json_lines(file: Path) -> Numbered:
    yield from enumerate(read_json_lines(file), start=1)


def _read_json(file: Path) -> Numbered:
    """Yield the items of a JSON list. Many `.json` files are JSON lines, recognised by a first line that is an object."""
    with file.open(encoding="utf-8-sig", errors="surrogatepass") as text:
        first_line = next((line for line in text if line.strip()), "").lstrip()
        text.seek(0)
        if first_line.startswith("{") and _is_json(first_line):
            yield from _read_json_lines(file)
            return
        content = json.load(text)
    if not isinstance(content, list):
        raise ValueError(f"it contains a {type(content).__name__}, not a list of rows or one row per line")
    yield from enumerate(content, start=1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_table(file: Path) -> Numbered:
    """Yield rows whose cells are all text, as they stand in the file: `007`, `1e5`, `NA` and `true` too."""
    csv.field_size_limit(1 << 30)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        names = list(rows.fieldnames or ())
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"its header names the column {twice!r} twice")
        for number, row in enumerate(rows, start=1):
            if None in row or None in row.values():
                raise ValueError(f"a row and the header differ in their number of cells: {shortened(row, 60)}")
            yield number, row


def _read_parquet(file: Path) -> Numbered:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as table:
        shorten = shortener(table.schema_arrow)
        batches = table.iter_batches()
        yield from enumerate((shorten(row) for batch in batches for row in batch.to_pylist()), start=1)


_READERS: dict[str, Callable[[Path], Numbered]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
}
SUFFIXES = tuple(_READERS)
