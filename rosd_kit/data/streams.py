"""Rows that are read when they are needed, by `datasets`: nobody knows how many there are. Knows no templates.

The place of a row follows from the seed and its number alone, so a run that goes on needs no cursor: it reads again, and drops,
the rows of the epoch that it is in. Of epochs that it has seen the end of, it knows the length and reads nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rosd_kit.data.source import Row, Source, fits, lacking, load_hub, local_files, nothing_fits
from rosd_kit.data.tables import Numbered
from rosd_kit.errors import RunError
from rosd_kit.seeds import stable_seed

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


class Stream:
    """Rows in their own order, or mixed within a buffer; a share of them, chosen by their content, is held back.

    `usable` says of a row whether it can be used at all.
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
        self._data: Any = None
        self._running: tuple[int, int, Iterator[Numbered]] | None = None
        self._length: int | None = None

    def draw(self, start: int, count: int, seed: int) -> list[Numbered]:
        """Return the rows at places `start` to `start + count` of an endless row of epochs."""
        if self._running is None or self._running[:2] != (seed, start):
            self._running = (seed, start, self._from(start, seed))
        rows = self._running[2]
        found = [next(rows) for _ in range(count)]
        self._running = (seed, start + count, rows)
        return found

    def held_out(self, count: int, seed: object) -> list[Numbered]:
        """Return the first `count` rows held back, whatever the seed, or all where there are fewer."""
        found = self._epoch(True, None)
        return [(str(number), row) for number, row in zip(range(count), found, strict=False)]

    def _from(self, start: int, seed: int) -> Iterator[Numbered]:
        """Yield rows from a place on, epoch after epoch."""
        epoch, skipped = divmod(start, self._length) if self._length else (0, start)
        while True:
            number = -1
            for number, row in enumerate(self._epoch(False, (seed, epoch))):
                if number >= skipped:
                    yield f"{epoch}-{number}", row
            self._length = number + 1
            if not self._length:
                raise RunError(f"task.path: {self._source.path!r} has no rows to train on.")
            epoch, skipped = epoch + 1, max(0, skipped - self._length)

    def _epoch(self, held: bool, order: tuple[int, int] | None) -> Iterator[Row]:
        data = self._opened.filter(lambda row: self._is_held(row) == held)
        if order and self._buffer:
            data = data.shuffle(seed=stable_seed("stream", *order) % 2**32, buffer_size=self._buffer)
        yield from self._told(data)

    def _told(self, data: Any) -> Iterator[Row]:
        """Yield rows; whatever their reading may raise is told as an error of the source."""
        try:
            yield from data
        except RunError:
            raise
        except Exception as error:  # of files, the network or their readers
            raise RunError(f"task.path: reading {self._source.path!r} failed: {type(error).__name__}: {error}") from error

    def _is_held(self, row: Row) -> bool:
        """Return whether a row is held back; equal rows are on the same side, wherever they stand."""
        if self._share in (0.0, 1.0):
            return bool(self._share)
        told = json.dumps(row, sort_keys=True, default=str)
        return stable_seed("held out", self._split_seed, told) < self._share * 2**63

    @property
    def _opened(self) -> Any:
        """The rows that fit `where` and can be used, at most `limit` of them."""
        if self._data is None:
            data = self._open()
            first = next(self._told(data), None)
            if first is None:
                raise RunError(f"task.path: {self._source.path!r} has no rows.")
            if lacking(self._source.where, first):  # else the whole of it would be read to find nothing
                raise RunError(f"task.where: no row of {self._source.path!r} has {nothing_fits(self._source.where, first)}")
            data = data.filter(lambda row: fits(row, self._source.where) and self._usable(row))
            data = data.take(self._source.limit) if self._source.limit else data
            if next(self._told(data), None) is None:
                told = nothing_fits(self._source.where, first)
                raise RunError(f"task.where: none of the rows of {self._source.path!r} has {told}")
            self._data = data
        return self._data

    def _open(self) -> Any:
        from datasets import load_dataset

        files = local_files(self._source)
        if not files:
            return load_hub(self._source, streaming=True)
        kind = _BUILDERS.get(files[0].suffix.lower())
        if kind is None:
            raise RunError(f"task.path: {files[0]} is none of {', '.join(_BUILDERS)}.")
        try:
            options = _as_texts(files[0]) if kind == "csv" else {}
            return load_dataset(kind, data_files=list(map(str, files)), split="train", streaming=True, **options)
        except Exception as error:  # datasets has no common base for what may go wrong
            raise RunError(f"task.path: cannot read {files[0]}: {type(error).__name__}: {str(error)[:400]}") from error


def _as_texts(file: Path) -> dict[str, Any]:
    """Return the options with which `datasets` reads every cell of a table as a text, as it is read at once too."""
    from datasets import Features, Value

    sign = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as lines:
        names = next(csv.reader(lines, delimiter=sign), [])
    return {"sep": sign, "keep_default_na": False, "features": Features({name: Value("string") for name in names})}
