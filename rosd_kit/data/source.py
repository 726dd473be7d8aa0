"""Where rows come from: local files of JSON lines, JSON, CSV or Parquet, or a data set of the hub. All rows at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from rosd_kit.contracts import Config
from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.files import read_json_lines

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Source(Config):
    """A table of rows."""

    path: str | None = None
    """A file (.jsonl, .json, .csv, .tsv, .parquet), several (`data/*.csv`), a folder that `datasets` saved, or a hub name."""
    subset: str | None = None
    """Configuration of a hub data set, where it has several."""
    split: str = "train"
    """Split of a hub data set or saved folder; a file has none."""
    revision: str | None = None
    """Commit of a hub data set; give one, or the data may change under you."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Only rows whose field has this value, or one of these values: `{level: [L3, L4]}`. Dots reach into a field."""
    limit: int | None = Field(default=None, gt=0)
    """At most so many rows, the first that fit `where`."""
    streaming: bool = False
    """Read rows when they are needed, for data that is larger than memory; nobody knows then how many there are."""


def read_rows(source: Source) -> list[Row]:
    """Return all rows of a source that fit its `where`. Raises `RunError` when there are none, or it cannot be read."""
    rows = read_all(source)
    kept = [row for row in rows if fits(row, source.where)][: source.limit]
    if kept:
        return kept
    if not rows:
        raise RunError(f"task.path: {source.path!r} has no rows.")
    raise RunError(f"task.where: none of the {len(rows)} rows of {source.path!r} has {nothing_fits(source.where, rows[0])}")


def nothing_fits(where: Mapping[str, Any], first: Row) -> str:
    """Return the end of a message that no row fits: what was asked for, fields that there are not, and the first row."""
    missing = lacking(where, first)
    known = sorted({path for path in _paths(first)} | set(map(str, first)))
    lacks = f" The first row has no {missing[0]!r}.{did_you_mean(missing[0], known)}" if missing else ""
    return f"{dict(where)}.{lacks} The first row is: {shown(first)}"


def lacking(where: Mapping[str, Any], row: Row) -> list[str]:
    """Return the paths of `where` that a row does not have."""
    return [path for path in _paths(where) if _inside(row, path) is _MISSING]


def read_all(source: Source) -> Sequence[Row]:
    """Return every row. Raises `RunError` where the source does not exist or cannot be read."""
    if files := local_files(source):
        return [row for file in files for row in _read_file(file)]
    assert source.path is not None
    return _saved(source) if Path(source.path).is_dir() else _of_hub(source)


def local_files(source: Source) -> list[Path]:
    """Return the files that a source names, sorted; none for a folder or a hub name. Raises `RunError` for missing ones."""
    if source.path is None:
        raise RunError("task.path: there are no rows to train on. Name a file or a hub data set: task.path=...")
    file = Path(source.path)
    if any(sign in source.path for sign in "*?["):
        if found := sorted(file.parent.glob(file.name)):
            return found
        raise RunError(f"task.path: no file fits {source.path!r}.")
    if file.is_file():
        return [file]
    if file.is_dir():
        return []
    if file.suffix in SUFFIXES or file.is_absolute() or source.path.startswith("."):
        near = did_you_mean(file.name, [f.name for f in file.parent.glob("*")] if file.parent.is_dir() else [])
        raise RunError(f"task.path: there is no file {source.path!r}.{near} Relative paths begin at {Path.cwd()}")
    return []


def shown(row: Row) -> str:
    """Return a row for an error message: its keys and the beginnings of its values."""
    return "{" + ", ".join(f"{key}: {_brief(value)}" for key, value in row.items()) + "}"


def _brief(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:60]}..."


def _read_file(file: Path) -> list[Row]:
    readers = {".jsonl": read_json_lines, ".json": _json, ".csv": _table, ".tsv": _table, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise RunError(f"task.path: {file} is none of {', '.join(SUFFIXES)}.")
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
            raise RunError(f"task.path: row {number} of {file} is {_brief(row)}, not an object with named fields.")
    return rows


def _json(file: Path) -> Iterator[Row]:
    """Yield the rows of a list; many files of this name are JSON lines, which begin with a brace."""
    with file.open(encoding="utf-8-sig") as text:
        first = next((line for line in text if line.strip()), "").lstrip()
        text.seek(0)
        if first.startswith("{") and _is_json(first):
            yield from read_json_lines(file)
            return
        found = json.load(text)
    if not isinstance(found, list):
        raise ValueError(f"it holds {type(found).__name__}, neither a list of rows nor a row on each line")
    yield from found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _table(file: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True):
            if None in row or None in row.values():
                raise ValueError(f"a row has another number of cells than the head: {_brief(row)}")
            yield row


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(file).to_pylist()


def _saved(source: Source) -> Sequence[Row]:
    from datasets import DatasetDict, load_from_disk

    try:
        found: Any = load_from_disk(source.path)
    except (OSError, ValueError) as error:
        raise RunError(f"task.path: {source.path!r} is not a folder that datasets saved: {error}") from error
    if isinstance(found, DatasetDict):
        if source.split not in found:
            raise RunError(f"task.split: {source.path!r} has no {source.split!r}. Known: {', '.join(found)}")
        found = found[source.split]
    return list(found)


def _of_hub(source: Source) -> Sequence[Row]:
    return list(load_hub(source, streaming=False))


def load_hub(source: Source, *, streaming: bool) -> Any:
    """Return a data set of the hub as `datasets` gives it. Raises `RunError` when it cannot be had."""
    from datasets import load_dataset

    try:
        return load_dataset(source.path, source.subset, split=source.split, revision=source.revision, streaming=streaming)
    except Exception as error:  # datasets has no common base for what may go wrong
        raise RunError(
            f"task.path: cannot load {source.path!r} from the hub ({type(error).__name__}: {str(error)[:400]}). "
            "Give a local file, or a hub name with its subset and split; some data sets ask for a login (hf auth login)."
        ) from error


_MISSING = object()


def fits(row: Row, where: Mapping[str, Any]) -> bool:
    """Return whether a row has the values that `where` asks for; a row without such a field has not."""
    return all(_inside(row, path) in wanted for path, wanted in _paths(where).items())


def _paths(where: Mapping[str, Any], before: str = "") -> dict[str, list[Any]]:
    """Return the allowed values by dotted path; mappings inside mappings are paths too."""
    found: dict[str, list[Any]] = {}
    for key, wanted in where.items():
        if isinstance(wanted, Mapping):
            found |= _paths(wanted, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = wanted if isinstance(wanted, list) else [wanted]
    return found


def _inside(row: Row, path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value
