"""Problems from rows of data: local files or the hub, mapped to problems by field templates."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rosd_kit.components.tasks.row_problems import (
    Fields,
    Options,
    Template,
    check_optional_fields,
    problem_of,
    summary_of_faults,
    why_unusable,
)
from rosd_kit.contracts import GoldCheck, Task
from rosd_kit.data.rows import Row
from rosd_kit.data.source import MissingFileError, Source, local_files, read_rows
from rosd_kit.data.streams import Stream
from rosd_kit.data.tables import Table
from rosd_kit.errors import RunError
from rosd_kit.types import Problem

_log = logging.getLogger(__name__)


class Suite(Source):
    """A set of problems to evaluate on; fields are mapped as in the task unless given here."""

    path: str
    """Path or hub name, as in the task."""
    prompt: Template | None = None
    """The user message; null: as in the task."""
    answer: Template | None = None
    """The right answer; null: as in the task."""
    system: Template | None = None
    """The system message; null: as in the task, an empty text for none."""
    solution: Template | None = None
    """A worked solution; null for none, because evaluation does not show one."""
    options: Options | None = None
    """Fields to shuffle; null: as in the task."""
    held_out: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the rows to evaluate on, split off as `task.held_out` splits them; 1 for all."""
    in_domain: bool = False
    """Whether the suite measures the trained domain."""
    obtain: str | None = None
    """How to get the file. With this, a suite outside the trained domain whose file is missing is left out, with a warning that
    says it; without, a missing file is an error."""


class Dataset(Task):
    """Problems from a file or a hub data set, with templates for prompt, answer, system message and solution."""

    name = "dataset"
    provides = frozenset({"solution"})

    class Config(Task.Config, Source, Fields):
        """Rows to train on and rows to evaluate on."""

        free_on_resume: ClassVar[frozenset[str]] = frozenset({"bad_rows"})  # a stream may find the first bad row late

        held_out: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Share of the rows that is never trained on; 0 for none."""
        held_out_suite: str | None = "held_out"
        """Name of the suite that evaluates on those rows; null if `suites` cover them."""
        split_seed: NonNegativeInt = 42
        """Seed of that split, which is the one of `datasets.train_test_split`; a stream is split by row content instead."""
        suites: dict[str, Suite] = Field(default_factory=dict)
        """Further sets to evaluate on, by name."""
        shuffle: bool = True
        """Shuffle the rows anew each epoch; false keeps their order."""
        shuffle_buffer: PositiveInt = 1000
        """Number of rows in the shuffle buffer under `streaming`."""
        bad_rows: Literal["error", "skip"] = "error"
        """What to do with rows that do not fit the templates, hold damaged text, or have a right answer that the verifier can
        never see; `skip` leaves them out and warns how many."""
        max_characters: PositiveInt = 1 << 24
        """Longest system message, prompt or solution, in characters; a row with a longer one does not fit."""

        @model_validator(mode="after")
        def _check_suite_names(self) -> Self:
            if self.held_out_suite in self.suites:
                raise ValueError(
                    f"suites.{self.held_out_suite}: the held-out rows have this name; choose another, or set held_out_suite"
                )
            return self

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        self._suite_rows: dict[str, Table | Stream] = {}
        self._missing_suites: set[str] = set()
        self._check_gold: GoldCheck = _accept_any
        self._skipped: set[tuple[str, int]] = set()

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        return cls.provides if options.solution is not None else frozenset()

    def use_gold_check(self, check: GoldCheck) -> None:
        self._check_gold = check

    def data_files(self) -> Iterator[Path]:
        for source in (self.config, *(self.config.suites[name] for name in self._present_suites())):
            if source.path is not None:
                yield from local_files(source) or (file for file in Path(source.path).rglob("*") if file.is_file())

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rows = self._training_rows.draw(step * count, count, seed)
        return [self._problem(row, self.config, "train", f"train-{number}") for number, row in rows]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        problems: dict[str, list[Problem]] = {}
        held_out, in_domain = self._held_out_suite(), self.in_domain()
        for name in sorted([*held_out, *self._present_suites()], key=lambda name: name not in in_domain):
            fields = self.config if name in held_out else self._fields_of(name)
            source = self._training_rows if name in held_out else self._rows_of(name)
            rows = source.held_out(count, f"{name} {seed}")
            problems[name] = [self._problem(row, fields, name, f"{name}-{number}") for number, row in rows]
        return problems

    def in_domain(self) -> frozenset[str]:
        named = {name for name, suite in self.config.suites.items() if suite.in_domain}
        return frozenset({*named, *self._held_out_suite()})

    def _held_out_suite(self) -> list[str]:
        """Return the name of the suite of held-out rows, in a list that is empty if there is no such suite."""
        config = self.config
        return [config.held_out_suite] if config.path is not None and config.held_out and config.held_out_suite else []

    @cached_property
    def _training_rows(self) -> Table | Stream:
        return self._open(self.config, self.config, self.config.held_out, ("train", *self._held_out_suite()))

    def _present_suites(self) -> list[str]:
        """Return the suites to evaluate on: without those whose file is missing and that say how to get it, named once."""
        present = []
        for name, suite in self.config.suites.items():
            try:
                local_files(suite)
            except MissingFileError as error:
                if suite.obtain is not None and not suite.in_domain:
                    if name not in self._missing_suites:
                        self._missing_suites.add(name)
                        _log.warning("suite %r is left out: %s\n%s", name, error, suite.obtain)
                    continue
            present.append(name)
        return present

    def _rows_of(self, suite_name: str) -> Table | Stream:
        if suite_name not in self._suite_rows:
            suite = self.config.suites[suite_name]
            try:
                rows = self._open(suite, self._fields_of(suite_name), suite.held_out, (suite_name,))
            except RunError as error:
                raise RunError(f"suite {suite_name!r} (task.suites.{suite_name}): {error}") from error
            self._suite_rows[suite_name] = rows
        return self._suite_rows[suite_name]

    def _fields_of(self, suite_name: str) -> Fields:
        """Return the templates of a suite, with those of the task where it has none; a solution is never inherited."""
        suite, names = self.config.suites[suite_name], ("prompt", "answer", "system", "options")
        chosen = {name: getattr(self.config if getattr(suite, name) is None else suite, name) for name in names}
        return Fields.model_construct(**chosen, solution=suite.solution)

    def _open(self, source: Source, fields: Fields, held_out: float, suites: tuple[str, ...]) -> Table | Stream:
        """Open a source. Rows of a table are all checked now, so that no run fails on one of them later."""
        config = self.config
        if source.streaming:
            return Stream(
                source,
                held_out=held_out,
                split_seed=config.split_seed,
                buffer=config.shuffle_buffer if config.shuffle else 0,
                usable=lambda row: self._is_usable(row, fields, suites, str(source.path)),
                on_open=lambda rows: check_optional_fields(rows, fields),
            )
        rows = read_rows(source)
        check_optional_fields(rows, fields)
        faults = [(row, fault) for row in rows if (fault := self._fault(row, fields, suites))]
        if faults:
            if len(faults) == len(rows):
                raise RunError(faults[0][1])
            message = summary_of_faults(faults, len(rows), str(source.path))
            if config.bad_rows == "error":
                raise RunError(f"{message}\nLeave such rows out with task.where, or with task.bad_rows=skip.")
            _log.warning("%s\nThey are left out (task.bad_rows=skip).", message)
            unusable = {id(row) for row, _ in faults}
            rows = [row for row in rows if id(row) not in unusable]
        return Table(rows, held_out=held_out, split_seed=config.split_seed, shuffle=config.shuffle)

    def _is_usable(self, row: Row, fields: Fields, suites: tuple[str, ...], path: str) -> bool:
        """Return whether a streamed row fits; count it and warn now and then, or raise `RunError`, if it does not."""
        fault = self._fault(row, fields, suites)
        if fault is None:
            return True
        if self.config.bad_rows == "error":
            raise RunError(f"{fault}\nLeave such rows out with task.where, or with task.bad_rows=skip.")
        self._skipped.add((row.file, row.number))
        count = len(self._skipped)
        if count == 10 ** (len(str(count)) - 1):  # 1, 10, 100 ...
            _log.warning("task.path: left out %d rows of %r so far (task.bad_rows=skip). The last: %s", count, path, fault)
        return False

    def _fault(self, row: Row, fields: Fields, suites: tuple[str, ...]) -> str | None:
        """Return why a row cannot become a problem of these suites, or None if it can."""
        try:
            problems = [self._problem(row, fields, suite, suite) for suite in suites]
        except RunError as error:
            return str(error)
        faults = (why_unusable(problem, row, self._check_gold, self.config.max_characters) for problem in problems)
        return next((fault for fault in faults if fault), None)

    def _problem(self, row: Row, fields: Fields, suite: str, id: str) -> Problem:
        return problem_of(row, fields, id=id, suite=suite, split_seed=self.config.split_seed)


def _accept_any(problem: Problem) -> None:
    """Stand in for the check of a verifier that is not known yet."""
