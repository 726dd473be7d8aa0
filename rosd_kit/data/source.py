"""Reads all rows of a source at once: local JSON lines, JSON, CSV or Parquet files, or a hub data set. Knows no templates."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from rosd_kit.contracts import Config
from rosd_kit.errors import RunError, did_you_mean, shortened
from rosd_kit.files import read_json_lines

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Source(Config):
    """A table of rows."""

    path: str | None = None
    """A file (.jsonl, .json, .csv, .tsv, .parquet), several (`data/*.csv`), a folder saved by `datasets`, or a hub name."""
    subset: str | None = None
    """Configuration of a hub data set, if it has several."""
    split: str = "train"
    """Split of a hub data set or saved folder; files have none."""
    revision: str | None = None
    """Commit of a hub data set; without one, the data may change between runs."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Keep only rows whose field has this value, or one of these: `{level: [L3, L4]}`. Dots reach into a field."""
    limit: int | None = Field(default=None, gt=0)
    """Maximum number of rows; the first that match `where` are kept."""
    streaming: bool = False
    """Read rows as they are needed, for data larger than memory; their number is then unknown."""


def read_rows(source: Source) -> list[Row]:
    """Return all rows of a source that match its `where`. Raises `RunError` if there are none or they cannot be read."""
    rows = read_all(source)
    kept = [row for row in rows if matches(row, source.where)][: source.limit]
    if kept:
        return kept
    if not rows:
        raise RunError(f"task.path: {source.path!r} has no rows.")
    raise RunError(
        f"task.where: none of the {len(rows)} rows of {source.path!r} has {describe_mismatch(source.where, rows[0])}"
    )


def describe_mismatch(where: Mapping[str, Any], first: Row) -> str:
    """Return the end of the message that no row matches: the condition, its unknown fields, and the first row."""
    missing = missing_fields(where, first)
    known = sorted({path for path in _paths(first)} | set(map(str, first)))
    hint = f" The first row has no {missing[0]!r}.{did_you_mean(missing[0], known)}" if missing else ""
    return f"{dict(where)}.{hint} The first row is: {brief_row(first)}"


def missing_fields(where: Mapping[str, Any], row: Row) -> list[str]:
    """Return the paths in `where` that a row does not have."""
    return [path for path in _paths(where) if _look_up(row, path) is _MISSING]


def read_all(source: Source) -> Sequence[Row]:
    """Return every row of a source. Raises `RunError` if it does not exist or cannot be read."""
    if files := local_files(source):
        return [row for file in files for row in _read_file(file)]
    assert source.path is not None
    return _read_saved(source) if Path(source.path).is_dir() else list(load_hub(source, streaming=False))


def local_files(source: Source) -> list[Path]:
    """Return the files of a source, sorted; none for a folder or hub name. Raises `RunError` if a file is missing."""
    if source.path is None:
        raise RunError("task.path: there are no rows to train on. Name a file or a hub data set: task.path=...")
    file = Path(source.path)
    if any(wildcard in source.path for wildcard in "*?["):
        if files := sorted(file.parent.glob(file.name)):
            return files
        raise RunError(f"task.path: no file matches {source.path!r}.")
    if file.is_file():
        return [file]
    if file.is_dir():
        return []
    if file.suffix in SUFFIXES or file.is_absolute() or source.path.startswith("."):
        near = did_you_mean(file.name, [f.name for f in file.parent.glob("*")] if file.parent.is_dir() else [])
        raise RunError(f"task.path: there is no file {source.path!r}.{near} Relative paths start at {Path.cwd()}")
    return []


def brief_row(row: Row) -> str:
    """Return a row for an error message: its keys, and its values cut short."""
    return "{" + ", ".join(f"{key}: {shortened(value, 60)}" for key, value in row.items()) + "}"


def _read_file(file: Path) -> list[Row]:
    readers: dict[str, Callable[[Path], Iterator[object]]] = {
        ".jsonl": read_json_lines,
        ".json": _read_json,
        ".csv": _read_table,
        ".tsv": _read_table,
        ".parquet": _read_parquet,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise RunError(f"task.path: {file} is not one of {', '.join(SUFFIXES)}.")
    try:
        rows = list(reader(file))
    except RunError as error:
        raise RunError(f"task.path: {error}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"task.path: {file} is not UTF-8: {error}") from error
    except (ValueError, OSError, csv.Error) as error:
        raise RunError(f"task.path: cannot read {file}: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise RunError(f"task.path: row {number} of {file} is {shortened(row, 60)}, not an object with named fields.")
    return cast("list[Row]", rows)


def _read_json(file: Path) -> Iterator[object]:
    """Yield the items of a JSON list. Many `.json` files are JSON lines, recognised by a first line that is an object."""
    with file.open(encoding="utf-8-sig") as text:
        first_line = next((line for line in text if line.strip()), "").lstrip()
        text.seek(0)
        if first_line.startswith("{") and _is_json(first_line):
            yield from read_json_lines(file)
            return
        content = json.load(text)
    if not isinstance(content, list):
        raise ValueError(f"it contains a {type(content).__name__}, not a list of rows or one row per line")
    yield from content


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_table(file: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True):
            if None in row or None in row.values():
                raise ValueError(f"a row and the header differ in their number of cells: {shortened(row, 60)}")
            yield row


def _read_parquet(file: Path) -> Iterator[Row]:
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(file).to_pylist()


def _read_saved(source: Source) -> Sequence[Row]:
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(source.path)
    except (OSError, ValueError) as error:
        raise RunError(f"task.path: {source.path!r} is not a folder saved by datasets: {error}") from error
    if isinstance(saved, DatasetDict):
        if source.split not in saved:
            raise RunError(f"task.split: {source.path!r} has no {source.split!r}. Known: {', '.join(saved)}")
        saved = saved[source.split]
    return list(saved)


def load_hub(source: Source, *, streaming: bool) -> Any:
    """Return a hub data set as loaded by `datasets`. Raises `RunError` if it cannot be loaded."""
    from datasets import load_dataset

    try:
        return load_dataset(source.path, source.subset, split=source.split, revision=source.revision, streaming=streaming)
    except Exception as error:  # datasets has no common base class for its errors
        raise RunError(
            f"task.path: cannot load {source.path!r} from the hub ({type(error).__name__}: {str(error)[:400]}). "
            "Give a local file, or a hub name with its subset and split; some data sets need a login (hf auth login)."
        ) from error


_MISSING = object()


def matches(row: Row, where: Mapping[str, Any]) -> bool:
    """Return whether a row has the values that `where` asks for; a missing field never matches."""
    return all(_look_up(row, path) in allowed for path, allowed in _paths(where).items())


def _paths(where: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    """Return the allowed values by dotted path; nested mappings become longer paths."""
    paths: dict[str, list[Any]] = {}
    for key, allowed in where.items():
        if isinstance(allowed, Mapping):
            paths |= _paths(allowed, f"{prefix}{key}.")
        else:
            paths[f"{prefix}{key}"] = allowed if isinstance(allowed, list) else [allowed]
    return paths


def _look_up(row: Row, path: str) -> object:
    value: object = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value
