"""Rows that `datasets` streams as they are needed, so their number is unknown. Knows no templates.

The seed and the index alone decide which row is drawn, so a resumed run needs no cursor: it reads the current epoch again up
to its index and drops those rows. The length of an epoch is known once its end has been reached; later epochs before the
index are then skipped without reading.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.data.arrow import shortener
from rosd_kit.data.readers import SUFFIXES, read_file
from rosd_kit.data.rows import Row, plain_row, with_columns
from rosd_kit.data.source import Source, as_rows, describe_mismatch, load_hub, load_saved, local_files, matches, missing_fields
from rosd_kit.data.tables import NumberedRow
from rosd_kit.errors import RunError
from rosd_kit.seeds import stable_seed

if TYPE_CHECKING:
    from datasets import IterableDataset

#: Rows that are read to learn the names of the columns.
_FIRST_ROWS = 100
#: `datasets` passes mappings through its own code, so a row travels as the only value of one.
_ROW = "row"


class Stream:
    """Rows in their own order or shuffled within a buffer; a share of them, chosen by content, is held out.

    `usable` filters rows, in addition to the source's `where`; `on_open` gets the first rows once, before any other.
    """

    def __init__(
        self,
        source: Source,
        *,
        held_out: float,
        split_seed: int,
        buffer: int = 0,
        usable: Callable[[Row], bool] = lambda row: True,
        on_open: Callable[[list[Row]], None] = lambda rows: None,
    ) -> None:
        self._source, self._share, self._split_seed, self._buffer = source, held_out, split_seed, buffer
        self._usable, self._on_open = usable, on_open
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
        rows = self._rows.filter(lambda item: self._is_held_out(item[_ROW]) == held_out)
        if order and self._buffer:
            rows = rows.shuffle(seed=stable_seed("stream", *order) % 2**32, buffer_size=self._buffer)
        yield from self._checked(rows)

    def _checked(self, items: Iterable[dict[str, Row]]) -> Iterator[Row]:
        """Yield rows; turn whatever reading them raises into a `RunError` that names the source."""
        try:
            for item in items:
                yield item[_ROW]
        except RunError:
            raise
        except Exception as error:  # from files, the network or their readers
            raise RunError(f"task.path: reading {self._source.path!r} failed: {type(error).__name__}: {error}") from error

    def _is_held_out(self, row: Row) -> bool:
        """Return whether a row is held out; equal rows are always on the same side."""
        if self._share in (0.0, 1.0):
            return bool(self._share)
        content = json.dumps({key: value for key, value in row.items() if value is not None}, sort_keys=True, default=str)
        return stable_seed("held out", self._split_seed, content) < self._share * 2**63

    @property
    def _rows(self) -> IterableDataset:
        """The usable rows that match `where`, at most `limit` of them, each in a mapping."""
        if self._data is None:
            data = self._open()
            first = list(islice(self._checked(data), _FIRST_ROWS))
            if not first:
                raise RunError(f"task.path: {self._source.path!r} has no rows.")
            columns = dict.fromkeys(column for row in first for column in row)
            where = self._source.where
            whole = with_columns(first[0], columns)
            if all(missing_fields(where, row) for row in first):  # otherwise the whole stream would be read to find no row
                raise RunError(f"task.where: no row of {self._source.path!r} has {describe_mismatch(where, whole)}")
            self._on_open([with_columns(row, columns) for row in first])
            data = data.filter(lambda item: self._is_wanted(with_columns(item[_ROW], columns)))
            data = data.take(self._source.limit) if self._source.limit else data
            if next(self._checked(data), None) is None:
                mismatch = describe_mismatch(where, whole)
                raise RunError(f"task.where: none of the rows of {self._source.path!r} has {mismatch}")
            self._data = data
        return self._data

    def _is_wanted(self, row: Row) -> bool:
        return matches(row, self._source.where) and self._usable(row)

    def _open(self) -> IterableDataset:
        """Return the rows as `datasets` streams them: files are read here, so that they give what `read_rows` gives."""
        from datasets import IterableDataset

        source = self._source
        files = local_files(source)
        if bad := next((file for file in files if file.suffix.lower() not in SUFFIXES), None):
            raise RunError(f"task.path: {bad} is not one of {', '.join(SUFFIXES)}.")
        if files:
            return IterableDataset.from_generator(_read_files, gen_kwargs={"files": list(map(str, files))})
        assert source.path is not None
        if Path(source.path).is_dir():
            return IterableDataset.from_generator(_read_saved, gen_kwargs={"source": source})
        return hub_rows(source)


def hub_rows(source: Source) -> IterableDataset:
    """Return the streamed rows of a hub data set, each in a mapping."""
    data: IterableDataset = load_hub(source, streaming=True)
    columns = data.column_names or list(next(iter(data), {}))
    shorten = shortener(data.features.arrow_schema) if data.features is not None else dict
    return data.map(
        lambda row, index: _wrapped(shorten(row), index, str(source.path)), with_indices=True, remove_columns=columns
    )


def _read_files(files: list[str]) -> Iterator[dict[str, Row]]:
    for file in files:
        for row in read_file(Path(file)):
            yield {_ROW: row}


def _read_saved(source: Source) -> Iterator[dict[str, Row]]:
    for index, row in enumerate(as_rows(load_saved(source))):
        yield _wrapped(row, index, str(source.path))


def _wrapped(values: Mapping[str, object], index: int, path: str) -> dict[str, Row]:
    return {_ROW: plain_row(values, path, index + 1)}
