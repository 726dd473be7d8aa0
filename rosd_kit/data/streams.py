"""Rows that `datasets` streams as they are needed, so their number is unknown. Knows no templates.

The seed and the index alone decide which row is drawn, so a resumed run needs no cursor: it reads the current epoch again up
to its index and drops those rows. The length of an epoch is known once its end has been reached; later epochs before the
index are then skipped without reading.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosd_kit.data.source import Row, Source, describe_mismatch, load_hub, local_files, matches, missing_fields
from rosd_kit.data.tables import NumberedRow
from rosd_kit.errors import RunError
from rosd_kit.seeds import stable_seed

if TYPE_CHECKING:
    from datasets import IterableDataset

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


class Stream:
    """Rows in their own order or shuffled within a buffer; a share of them, chosen by content, is held out.

    `usable` filters rows, in addition to the source's `where`.
    """

    def __init__(
        self,
        source: Source,
        *,
        held_out: float,
        split_seed: int,
        buffer: int = 0,
        usable: Callable[[Row], bool] = lambda row: True,
    ) -> None:
        self._source, self._share, self._split_seed, self._buffer = source, held_out, split_seed, buffer
        self._usable = usable
        self._data: IterableDataset | None = None
        self._reader: tuple[int, int, Iterator[NumberedRow]] | None = None
        """Seed, next index and open iterator of the last draw."""
        self._epoch_length: int | None = None

    def draw(self, start: int, count: int, seed: int) -> list[NumberedRow]:
        """Return the rows at indices `start` to `start + count` of an endless sequence of epochs."""
        if self._reader is None or self._reader[:2] != (seed, start):
            self._reader = (seed, start, self._read_from(start, seed))
        reader = self._reader[2]
        rows = [next(reader) for _ in range(count)]
        self._reader = (seed, start + count, reader)
        return rows

    def held_out(self, count: int, seed: object) -> list[NumberedRow]:
        """Return the first `count` held-out rows, whatever the seed, or all if there are fewer."""
        rows = self._read_epoch(held_out=True, order=None)
        return [(str(number), row) for number, row in zip(range(count), rows, strict=False)]

    def _read_from(self, start: int, seed: int) -> Iterator[NumberedRow]:
        """Yield rows from an index on, epoch after epoch."""
        epoch, skipped = divmod(start, self._epoch_length) if self._epoch_length else (0, start)
        while True:
            number = -1
            for number, row in enumerate(self._read_epoch(held_out=False, order=(seed, epoch))):
                if number >= skipped:
                    yield f"{epoch}-{number}", row
            self._epoch_length = number + 1
            if not self._epoch_length:
                raise RunError(f"task.path: {self._source.path!r} has no rows to train on.")
            epoch, skipped = epoch + 1, max(0, skipped - self._epoch_length)

    def _read_epoch(self, *, held_out: bool, order: tuple[int, int] | None) -> Iterator[Row]:
        rows = self._rows.filter(lambda row: self._is_held_out(row) == held_out)
        if order and self._buffer:
            rows = rows.shuffle(seed=stable_seed("stream", *order) % 2**32, buffer_size=self._buffer)
        yield from self._checked(rows)

    def _checked(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows; turn whatever reading them raises into a `RunError` that names the source."""
        try:
            yield from rows
        except RunError:
            raise
        except Exception as error:  # from files, the network or their readers
            raise RunError(f"task.path: reading {self._source.path!r} failed: {type(error).__name__}: {error}") from error

    def _is_held_out(self, row: Row) -> bool:
        """Return whether a row is held out; equal rows are always on the same side."""
        if self._share in (0.0, 1.0):
            return bool(self._share)
        content = json.dumps(row, sort_keys=True, default=str)
        return stable_seed("held out", self._split_seed, content) < self._share * 2**63

    @property
    def _rows(self) -> IterableDataset:
        """The usable rows that match `where`, at most `limit` of them."""
        if self._data is None:
            data = self._open()
            first = next(self._checked(data), None)
            if first is None:
                raise RunError(f"task.path: {self._source.path!r} has no rows.")
            where = self._source.where
            if missing_fields(where, first):  # otherwise the whole stream would be read to find no row
                raise RunError(f"task.where: no row of {self._source.path!r} has {describe_mismatch(where, first)}")
            data = data.filter(lambda row: matches(row, where) and self._usable(row))
            data = data.take(self._source.limit) if self._source.limit else data
            if next(self._checked(data), None) is None:
                mismatch = describe_mismatch(where, first)
                raise RunError(f"task.where: none of the rows of {self._source.path!r} has {mismatch}")
            self._data = data
        return self._data

    def _open(self) -> IterableDataset:
        from datasets import load_dataset

        files = local_files(self._source)
        if not files:
            return load_hub(self._source, streaming=True)
        kind = _BUILDERS.get(files[0].suffix.lower())
        if kind is None:
            raise RunError(f"task.path: {files[0]} is not one of {', '.join(_BUILDERS)}.")
        try:
            options = _text_columns(files[0]) if kind == "csv" else {}
            return load_dataset(kind, data_files=list(map(str, files)), split="train", streaming=True, **options)
        except Exception as error:  # datasets has no common base class for its errors
            raise RunError(f"task.path: cannot read {files[0]}: {type(error).__name__}: {str(error)[:400]}") from error


def _text_columns(file: Path) -> dict[str, Any]:
    """Return the options with which `datasets` reads every cell of a table as text, as `read_all` does."""
    from datasets import Features, Value

    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as lines:
        names = next(csv.reader(lines, delimiter=separator), [])
    return {"sep": separator, "keep_default_na": False, "features": Features({name: Value("string") for name in names})}
