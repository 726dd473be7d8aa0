"""A source of rows: finds its files, reads and filters all of them at once, or loads a hub data set. Knows no templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rosd_kit.contracts import Config
from rosd_kit.data.arrow import shortener
from rosd_kit.data.readers import SUFFIXES, read_file
from rosd_kit.data.rows import MISSING, Row, as_text, look_up, plain_row, with_columns
from rosd_kit.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_PACKAGE_PREFIX = "package:"


class Source(Config):
    """A table of rows."""

    fixed_because: ClassVar[str] = "the rows are read once"

    path: str | None = None
    """A file (.jsonl, .json, .csv, .tsv, .parquet), several (`data/*.csv`), a folder saved by `datasets`, a hub name, or
    `package:NAME/FILE` for a file of an installed package."""
    subset: str | None = None
    """Configuration of a hub data set, if it has several."""
    split: str = "train"
    """Split of a hub data set or saved folder; files have none."""
    revision: str | None = None
    """Commit of a hub data set; without one, the data may change between runs."""
    where: dict[str, object] = Field(default_factory=dict)
    """Keep only rows whose field has this value, or one of these: `{level: [L3, L4]}`. Dots reach into a field."""
    limit: int | None = Field(default=None, gt=0)
    """Maximum number of rows; the first that match `where` are kept."""
    streaming: bool = False
    """Read rows as they are needed, for data larger than memory; their number is then unknown."""


def read_rows(source: Source) -> list[Row]:
    """Return all rows of a source that match its `where`. Raises `RunError` if there are none or they cannot be read.

    Every row has every column; those that it lacks are null.
    """
    rows = list(iterate_rows(source))
    columns = dict.fromkeys(column for row in rows for column in row)
    kept = [with_columns(row, columns) for row in rows if matches(row, source.where)][: source.limit]
    if kept:
        return kept
    if not rows:
        raise RunError(f"task.path: {source.path!r} has no rows.")
    raise RunError(
        f"task.where: none of the {len(rows)} rows of {source.path!r} has {describe_mismatch(source.where, rows[0])}"
    )


def describe_mismatch(where: Mapping[str, object], first: Row) -> str:
    """Return the end of the message that no row matches: the condition, its unknown fields, and the first row."""
    missing = missing_fields(where, first)
    known = sorted({path for path in _paths(first)} | set(map(str, first)))
    hint = f" The first row has no {missing[0]!r}.{did_you_mean(missing[0], known)}" if missing else ""
    return f"{dict(where)}.{hint} The first row is: {first}"


def missing_fields(where: Mapping[str, object], row: Row) -> list[str]:
    """Return the paths in `where` that a row does not have, though they ask for a value."""
    asked = (path for path, allowed in _paths(where).items() if None not in allowed)
    return [path for path in asked if look_up(row, path.split(".")) is MISSING]


def iterate_rows(source: Source) -> Iterator[Row]:
    """Yield every row of a source. Raises `RunError` if it does not exist or cannot be read."""
    if files := local_files(source):
        for file in files:
            yield from read_file(file)
        return
    assert source.path is not None
    table = load_saved(source) if Path(source.path).is_dir() else load_hub(source, streaming=False)
    for number, row in enumerate(as_rows(table), start=1):
        yield plain_row(row, source.path, number)


def as_rows(table: Dataset | IterableDataset) -> Iterator[Mapping[str, object]]:
    """Yield the rows of a data set of `datasets`, whether in memory or streamed, with the shortest numbers."""
    features = getattr(table, "features", None)
    shorten = shortener(features.arrow_schema) if features is not None else dict
    yield from map(shorten, table)


class MissingFileError(RunError):
    """A source names a file that is not on this machine."""


def local_files(source: Source) -> list[Path]:
    """Return the files of a source, sorted; none for a folder or hub name. Raises `RunError` if a file is missing."""
    if source.path is None:
        raise RunError("task.path: there are no rows to train on. Name a file or a hub data set: task.path=...")
    if source.path.startswith(_PACKAGE_PREFIX):
        return [_file_of_package(source.path)]
    file = Path(source.path)
    if any(wildcard in source.path for wildcard in "*?["):
        if files := sorted(file.parent.glob(file.name)):
            return files
        raise MissingFileError(f"task.path: no file matches {source.path!r}.")
    if file.is_file():
        return [file]
    if file.is_dir():
        return []
    if file.suffix in SUFFIXES or file.is_absolute() or source.path.startswith("."):
        near = did_you_mean(file.name, [f.name for f in file.parent.glob("*")] if file.parent.is_dir() else [])
        raise MissingFileError(f"task.path: there is no file {source.path!r}.{near} Relative paths start at {Path.cwd()}")
    return []


def _file_of_package(path: str) -> Path:
    """Return the file that `package:NAME/FILE` means, without importing the package. Raises `RunError` if there is none."""
    name, _, inside = path.removeprefix(_PACKAGE_PREFIX).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise RunError(f"task.path: {path!r}: no package {name!r} is installed here. Write package:NAME/FILE, or name a file.")
    folder = Path(spec.submodule_search_locations[0])
    file = folder / inside
    if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"task.path: {path!r}: the package {name!r} holds no file {inside!r}.")
    return file


def load_saved(source: Source) -> Dataset:
    """Return a split that `datasets` saved, as Python values. Raises `RunError` if there is none."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(source.path)
    except (OSError, ValueError) as error:
        raise RunError(f"task.path: {source.path!r} is not a folder saved by datasets: {error}") from error
    if isinstance(saved, DatasetDict):
        if source.split not in saved:
            raise RunError(f"task.split: {source.path!r} has no {source.split!r}. Known: {', '.join(saved)}")
        saved = saved[source.split]
    return saved.with_format(None)


def load_hub(source: Source, *, streaming: bool) -> Dataset | IterableDataset:
    """Return a hub data set as loaded by `datasets`. Raises `RunError` if it cannot be loaded."""
    from datasets import load_dataset

    try:
        options = _text_cells(source)
        return load_dataset(
            source.path, source.subset, split=source.split, revision=source.revision, streaming=streaming, **options
        )
    except Exception as error:  # datasets has no common base class for its errors
        raise RunError(
            f"task.path: cannot load {source.path!r} from the hub ({type(error).__name__}: {str(error)[:400]}). "
            "Give a local file, or a hub name with its subset and split; some data sets need a login (hf auth login)."
        ) from error


def _text_cells(source: Source) -> dict[str, object]:
    """Return the options with which `datasets` reads each cell of a CSV as the text that it is; nothing for other data."""
    from datasets import Features, Value, load_dataset, load_dataset_builder

    builder = load_dataset_builder(source.path, source.subset, revision=source.revision)
    if not hasattr(builder.config, "keep_default_na"):
        return {}
    cells = load_dataset(source.path, source.subset, split=source.split, revision=source.revision, streaming=True)
    columns = {name: Value("string") for name in next(iter(cells), {})}
    return {"keep_default_na": False, "features": Features(columns)} if columns else {}


def matches(row: Row, where: Mapping[str, object]) -> bool:
    """Return whether a row has the values that `where` asks for; null asks for rows without the field."""
    return all(
        any(_is_same(look_up(row, path.split(".")), value) for value in allowed) for path, allowed in _paths(where).items()
    )


def _is_same(value: object, allowed: object) -> bool:
    """Return whether a row's value is the allowed one; text counts as the number or truth value that it spells."""
    if value is MISSING or value is None:
        return allowed is None
    if isinstance(value, str) != isinstance(allowed, str):
        return as_text(value) is not None and str(value).casefold() == str(allowed).casefold()
    return value == allowed


def _paths(where: Mapping[str, object], prefix: str = "") -> dict[str, list[object]]:
    """Return the allowed values by dotted path; nested mappings become longer paths."""
    paths: dict[str, list[object]] = {}
    for key, allowed in where.items():
        if isinstance(allowed, Mapping):
            paths |= _paths(allowed, f"{prefix}{key}.")
        else:
            paths[f"{prefix}{key}"] = allowed if isinstance(allowed, list) else [allowed]
    return paths
