"""Problems from rows of data: files or the hub, fields mapped by templates."""

from __future__ import annotations

import logging
import random
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from rosd_kit.contracts import Config, Task
from rosd_kit.data.fields import FieldError, check_fields, fill_fields, fill_optional
from rosd_kit.data.source import Row, Source, read_rows, shown
from rosd_kit.data.streams import Stream
from rosd_kit.data.tables import Table
from rosd_kit.errors import RunError
from rosd_kit.types import Message, Problem

_log = logging.getLogger(__name__)


def _quoted(value: Any) -> Any:
    """Refuse what YAML makes of `{field}` without quotes: a mapping."""
    if isinstance(value, dict):
        raise ValueError('YAML reads bare braces as a mapping; put the template in quotes: "{field}", in a shell \'"{field}"\'')
    return value


Template = Annotated[str, BeforeValidator(_quoted), AfterValidator(check_fields)]


class Options(Config):
    """Fields that hold the options of a multiple-choice question which the data does not put into an order."""

    right: str
    """The field of the right option."""
    wrong: list[str] = Field(min_length=1)
    """The fields of the others."""


class Fields(Config):
    """How a row becomes a problem; `{name}` stands for a field of the row."""

    prompt: Template = "{prompt}"
    """What the user asks."""
    answer: Template = "{answer}"
    """The right answer, in the form that the verifier reads."""
    system: Template | None = None
    """The system message; null for none."""
    solution: Template | None = None
    """A worked solution, for methods that show one; null where the data has none."""
    options: Options | None = None
    """Mix these fields, into another order for each row: `{options|letters}` lists them, `{right|letter}` names the right."""


class Suite(Source):
    """A set of problems to measure on; fields are mapped as in the task unless given here."""

    path: str
    """As in the task."""
    prompt: Template | None = None
    """What the user asks; null: as in the task."""
    answer: Template | None = None
    """The right answer; null: as in the task."""
    system: Template | None = None
    """The system message; null: as in the task, an empty text for none."""
    solution: Template | None = None
    """A worked solution; null for none, for nobody is shown one while measuring."""
    options: Options | None = None
    """Fields to mix; null: as in the task."""
    held_out: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the rows to measure on, the same that `task.held_out` keeps back of these rows; 1 for all."""
    in_domain: bool = False
    """Whether it measures the domain that is trained on."""


class Dataset(Task):
    """Problems from a file or a data set of the hub, with templates for prompt, answer, system message and solution."""

    name = "dataset"
    provides = frozenset({"solution"})

    class Config(Task.Config, Source, Fields):
        """Rows to train on, rows to measure on."""

        held_out: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Share of the rows that is never trained on; 0 for none."""
        held_out_suite: str | None = "held_out"
        """Name under which those rows are measured; null where `suites` measure them."""
        split_seed: int = 42
        """Seed of that division, which is the one of `datasets.train_test_split`; of a stream, equal rows are on one side."""
        suites: dict[str, Suite] = Field(default_factory=dict)
        """Other sets to measure on, by name."""
        shuffle: bool = True
        """Draw rows in another order each epoch; false: as they come."""
        shuffle_buffer: PositiveInt = 1000
        """Under `streaming`, rows that are mixed with one another."""
        bad_rows: Literal["error", "skip"] = "error"
        """What to do with rows that do not fit the templates; `skip` leaves them out and says how many."""

        @model_validator(mode="after")
        def _suites_have_names_of_their_own(self) -> Self:
            if self.held_out_suite in self.suites:
                raise ValueError(f"suites.{self.held_out_suite}: the name belongs to the rows that held_out keeps back")
            return self

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        return cls.provides if options.solution is not None else frozenset()

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rows = self._training.draw(step * count, count, seed)
        return [self._problem(row, self.config, "train", f"train-{number}") for number, row in rows]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        found: dict[str, list[Problem]] = {}
        own = self._own()
        for name in sorted([*own, *self.config.suites], key=lambda name: name not in self.in_domain()):
            fields = self.config if name in own else self.config.suites[name]
            rows = (self._training if name in own else self._measured(name)).held_out(count, f"{name} {seed}")
            found[name] = [self._problem(row, fields, name, f"{name}-{number}") for number, row in rows]
        return found

    def in_domain(self) -> frozenset[str]:
        named = {name for name, suite in self.config.suites.items() if suite.in_domain}
        return frozenset({*named, *self._own()})

    def _own(self) -> list[str]:
        """The name of the suite of the rows held back, where they are one."""
        config = self.config
        return [config.held_out_suite] if config.path is not None and config.held_out and config.held_out_suite else []

    @cached_property
    def _training(self) -> Table | Stream:
        return self._opened(self.config, self.config.held_out)

    @cached_property
    def _read(self) -> dict[str, Table | Stream]:
        return {}

    def _measured(self, name: str) -> Table | Stream:
        if name not in self._read:
            suite = self.config.suites[name]
            try:
                self._read[name] = self._opened(suite, suite.held_out)
            except RunError as error:
                raise RunError(f"suite {name!r} (task.suites.{name}): {error}") from error
        return self._read[name]

    def _opened(self, source: Source, held_out: float) -> Table | Stream:
        """Return the rows of a source. Those at hand are all tried now, so that a run does not end on one of them."""
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
            told = f"task.path: {len(faults)} of {len(rows)} rows of {source.path!r} do not fit. Row {number + 1}: {fault}"
            if len(faults) == len(rows):
                raise RunError(fault)
            if config.bad_rows == "error":
                raise RunError(f"{told}\nLeave such rows out with task.where, or with task.bad_rows=skip.")
            _log.warning("%s\nThey are left out (task.bad_rows=skip).", told)
            rows = [row for number, row in enumerate(rows) if number not in faults]
        return Table(rows, held_out=held_out, split_seed=config.split_seed, shuffle=config.shuffle)

    def _fault(self, row: Row, fields: Any) -> str | None:
        """Return why a row does not become a problem, or None where it does."""
        try:
            self._problem(row, fields, "", "")
        except RunError as error:
            return str(error)
        return None

    def _problem(self, row: Row, fields: Any, suite: str, id: str) -> Problem:
        def template(name: str) -> Any:
            own = getattr(fields, name)
            return getattr(self.config, name) if own is None and name != "solution" else own

        def filled(name: str, fill: Any) -> Any:
            try:
                return fill(template(name), whole) if template(name) is not None else None
            except FieldError as error:
                raise RunError(f"task.{name}: {error}\nThe row is {shown(row)}") from error

        whole = row if template("options") is None else self._mixed(row, template("options"))
        system = filled("system", fill_optional)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        return Problem(
            id=id,
            suite=suite,
            messages=(*messages, {"role": "user", "content": filled("prompt", fill_fields)}),
            answer=filled("answer", fill_fields),
            solution=filled("solution", fill_optional),
            meta=row,
        )

    def _mixed(self, row: Row, options: Options) -> Row:
        """Return a row with the list `options` and the place `right` of the right one, in an order that its texts decide."""
        names = [options.right, *options.wrong]
        if missing := [name for name in names if row.get(name) is None]:
            raise RunError(f"task.options: there is no {missing[0]!r}.\nThe row is {shown(row)}")
        texts = [str(row[name]).strip() for name in names]
        order = random.Random(f"options {self.config.split_seed} {texts}").sample(range(len(texts)), len(texts))
        return {**row, "options": [texts[place] for place in order], "right": order.index(0)}
