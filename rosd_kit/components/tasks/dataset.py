"""Problems from rows of data: local files or the hub, mapped to problems by field templates."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from rosd_kit.contracts import Config, Task
from rosd_kit.data.fields import FieldError, check_fields, fill_fields, fill_optional
from rosd_kit.data.source import Row, Source, brief_row, read_rows
from rosd_kit.data.streams import Stream
from rosd_kit.data.tables import Table
from rosd_kit.errors import RunError
from rosd_kit.types import Message, Problem

_log = logging.getLogger(__name__)


def _refuse_mapping(value: object) -> object:
    """Refuse a mapping, which is how YAML reads `{field}` without quotes."""
    if isinstance(value, dict):
        raise ValueError('YAML reads bare braces as a mapping; put the template in quotes: "{field}", in a shell \'"{field}"\'')
    return value


Template = Annotated[str, BeforeValidator(_refuse_mapping), AfterValidator(check_fields)]


class Options(Config):
    """Fields with the options of a multiple-choice question, for data that does not order them."""

    right: str
    """Field of the right option."""
    wrong: list[str] = Field(min_length=1)
    """Fields of the wrong options."""


class Fields(Config):
    """Templates that map a row to a problem; `{name}` stands for a field of the row."""

    prompt: Template = "{prompt}"
    """The user message."""
    answer: Template = "{answer}"
    """The right answer, in the form the verifier reads."""
    system: Template | None = None
    """The system message; null for none."""
    solution: Template | None = None
    """A worked solution, for methods that show one; null if the data has none."""
    options: Options | None = None
    """Shuffle these fields, differently for each row: `{options|letters}` lists them, `{right|letter}` is the right letter."""


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


class Dataset(Task):
    """Problems from a file or a hub data set, with templates for prompt, answer, system message and solution."""

    name = "dataset"
    provides = frozenset({"solution"})

    class Config(Task.Config, Source, Fields):
        """Rows to train on and rows to evaluate on."""

        held_out: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Share of the rows that is never trained on; 0 for none."""
        held_out_suite: str | None = "held_out"
        """Name of the suite that evaluates on those rows; null if `suites` cover them."""
        split_seed: int = 42
        """Seed of that split, which is the one of `datasets.train_test_split`; a stream is split by row content instead."""
        suites: dict[str, Suite] = Field(default_factory=dict)
        """Further sets to evaluate on, by name."""
        shuffle: bool = True
        """Shuffle the rows anew each epoch; false keeps their order."""
        shuffle_buffer: PositiveInt = 1000
        """Number of rows in the shuffle buffer under `streaming`."""
        bad_rows: Literal["error", "skip"] = "error"
        """What to do with rows that do not fit the templates; `skip` leaves them out and warns how many."""

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

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        return cls.provides if options.solution is not None else frozenset()

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rows = self._training_rows.draw(step * count, count, seed)
        return [self._problem(row, self.config, "train", f"train-{number}") for number, row in rows]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        problems: dict[str, list[Problem]] = {}
        held_out, in_domain = self._held_out_suite(), self.in_domain()
        for name in sorted([*held_out, *self.config.suites], key=lambda name: name not in in_domain):
            fields = self.config if name in held_out else self.config.suites[name]
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
        return self._open(self.config, self.config.held_out)

    def _rows_of(self, suite_name: str) -> Table | Stream:
        if suite_name not in self._suite_rows:
            suite = self.config.suites[suite_name]
            try:
                self._suite_rows[suite_name] = self._open(suite, suite.held_out)
            except RunError as error:
                raise RunError(f"suite {suite_name!r} (task.suites.{suite_name}): {error}") from error
        return self._suite_rows[suite_name]

    def _open(self, source: Dataset.Config | Suite, held_out: float) -> Table | Stream:
        """Open a source. Rows of a table are all checked now, so that no run fails on one of them later."""
        config = self.config
        if source.streaming:
            buffer = config.shuffle_buffer if config.shuffle else 0

            def usable(row: Row) -> bool:
                return config.bad_rows == "error" or self._fault(row, source) is None

            return Stream(source, held_out=held_out, split_seed=config.split_seed, buffer=buffer, usable=usable)
        rows = read_rows(source)
        faults = {number: fault for number, row in enumerate(rows) if (fault := self._fault(row, source))}
        if faults:
            number, fault = next(iter(faults.items()))
            if len(faults) == len(rows):
                raise RunError(fault)
            message = f"task.path: {len(faults)} of {len(rows)} rows of {source.path!r} do not fit. Row {number + 1}: {fault}"
            if config.bad_rows == "error":
                raise RunError(f"{message}\nLeave such rows out with task.where, or with task.bad_rows=skip.")
            _log.warning("%s\nThey are left out (task.bad_rows=skip).", message)
            rows = [row for number, row in enumerate(rows) if number not in faults]
        return Table(rows, held_out=held_out, split_seed=config.split_seed, shuffle=config.shuffle)

    def _fault(self, row: Row, fields: Fields | Suite) -> str | None:
        """Return why a row cannot become a problem, or None if it can."""
        try:
            self._problem(row, fields, "", "")
        except RunError as error:
            return str(error)
        return None

    def _problem(self, row: Row, fields: Fields | Suite, suite: str, id: str) -> Problem:
        task: Fields = self.config
        options = task.options if fields.options is None else fields.options
        values = row if options is None else self._shuffle_options(row, options)
        system = task.system if fields.system is None else fields.system
        with _naming_field("system", row):
            system = None if system is None else fill_optional(system, values)
        with _naming_field("prompt", row):
            prompt = fill_fields(task.prompt if fields.prompt is None else fields.prompt, values)
        with _naming_field("answer", row):
            answer = fill_fields(task.answer if fields.answer is None else fields.answer, values)
        with _naming_field("solution", row):
            solution = None if fields.solution is None else fill_optional(fields.solution, values)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        return Problem(
            id=id,
            suite=suite,
            messages=(*messages, {"role": "user", "content": prompt}),
            answer=answer,
            solution=solution,
            meta=row,
        )

    def _shuffle_options(self, row: Row, options: Options) -> Row:
        """Return the row with a shuffled list `options` and the index `right` of the right one; the texts decide the order."""
        names = [options.right, *options.wrong]
        if missing := [name for name in names if row.get(name) is None]:
            raise RunError(f"task.options: there is no {missing[0]!r}.\nThe row is {brief_row(row)}")
        texts = [str(row[name]).strip() for name in names]
        order = random.Random(f"options {self.config.split_seed} {texts}").sample(range(len(texts)), len(texts))
        return {**row, "options": [texts[index] for index in order], "right": order.index(0)}


@contextmanager
def _naming_field(field: str, row: Row) -> Iterator[None]:
    """Turn a `FieldError` into a `RunError` that names the template and shows the row."""
    try:
        yield
    except FieldError as error:
        raise RunError(f"task.{field}: {error}\nThe row is {brief_row(row)}") from error
