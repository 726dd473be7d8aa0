"""Problems from rows of data: files or the hub, fields mapped by templates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rosd_kit.contracts import Config, Task
from rosd_kit.data.fields import FieldError, check_fields, fill_fields
from rosd_kit.data.source import Row, Source, read_rows, shown
from rosd_kit.errors import RunError
from rosd_kit.types import Message, Problem


def _quoted(value: Any) -> Any:
    """Refuse what YAML makes of `{field}` without quotes: a mapping."""
    if isinstance(value, dict):
        raise ValueError('YAML reads bare braces as a mapping; put the template in quotes: "{field}", in a shell \'"{field}"\'')
    return value


Template = Annotated[str, BeforeValidator(_quoted), AfterValidator(check_fields)]


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


class Suite(Source):
    """A set of problems to measure on; fields are mapped as in the task unless given here."""

    prompt: Template | None = None
    """What the user asks; null: as in the task."""
    answer: Template | None = None
    """The right answer; null: as in the task."""
    system: Template | None = None
    """The system message; null: as in the task, an empty text for none."""
    solution: Template | None = None
    """A worked solution; null for none, for nobody is shown one while measuring."""
    in_domain: bool = False
    """Whether it measures the domain that is trained on."""


class Dataset(Task):
    """Problems from a file or a data set of the hub, with templates for prompt, answer, system message and solution."""

    name = "dataset"
    provides = frozenset({"solution"})

    class Config(Task.Config, Source, Fields):
        """Rows to train on, rows to measure on."""

        held_out: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Share of the rows that is never trained on and measured as the suite `held_out`; 0 for none."""
        split_seed: int = 42
        """Seed of that division."""
        suites: dict[str, Suite] = Field(default_factory=dict)
        """Other sets to measure on, by name."""
        shuffle: bool = True
        """Draw rows in another order each epoch; false: as they come."""

        @model_validator(mode="after")
        def _something_to_measure(self) -> Self:
            if "held_out" in self.suites:
                raise ValueError("suites.held_out: the name belongs to the rows that held_out keeps back; use another")
            return self

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        return cls.provides if options.solution is not None else frozenset()

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        rows, _ = self._divided
        places = [divmod(place, len(rows)) for place in range(step * count, (step + 1) * count)]
        orders = {epoch: self._order(len(rows), seed, epoch) for epoch in {epoch for epoch, _ in places}}
        chosen = [(epoch, orders[epoch][place]) for epoch, place in places]
        return [self._problem(rows[row], self.config, "train", f"train-{epoch}-{row}") for epoch, row in chosen]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        _, held_out = self._divided
        found = {"held_out": self._some(held_out, self.config, "held_out", count, seed)} if held_out else {}
        for name, suite in self.config.suites.items():
            found[name] = self._some(self._rows_of(name), suite, name, count, seed)
        return found

    def in_domain(self) -> frozenset[str]:
        named = {name for name, suite in self.config.suites.items() if suite.in_domain}
        return frozenset(named | ({"held_out"} if self.config.held_out else set()))

    @cached_property
    def _divided(self) -> tuple[list[Row], list[Row]]:
        """The rows to train on and those to measure on."""
        rows = read_rows(self.config)
        kept = round(self.config.held_out * len(rows))
        if self.config.held_out and not 0 < kept < len(rows):
            raise RunError(
                f"task.held_out: {self.config.held_out:g} of {len(rows)} rows leaves {kept} to measure on and "
                f"{len(rows) - kept} to train on. Choose another share, or 0 and name sets under task.suites."
            )
        order = random.Random(f"held out {self.config.split_seed}").sample(range(len(rows)), len(rows))
        return [rows[i] for i in sorted(order[kept:])], [rows[i] for i in sorted(order[:kept])]

    @cached_property
    def _read(self) -> dict[str, list[Row]]:
        return {}

    def _rows_of(self, suite: str) -> list[Row]:
        if suite not in self._read:
            self._read[suite] = read_rows(self.config.suites[suite])
        return self._read[suite]

    def _order(self, length: int, seed: int, epoch: int) -> Sequence[int]:
        if not self.config.shuffle:
            return range(length)
        return random.Random(f"epoch {seed} {epoch}").sample(range(length), length)

    def _some(self, rows: Sequence[Row], fields: Any, suite: str, count: int, seed: int) -> list[Problem]:
        """Return `count` rows of a suite, always the same for a seed, or all where there are fewer."""
        places = sorted(random.Random(f"suite {suite} {seed}").sample(range(len(rows)), min(count, len(rows))))
        return [self._problem(rows[place], fields, suite, f"{suite}-{place}") for place in places]

    def _problem(self, row: Row, fields: Any, suite: str, id: str) -> Problem:
        def filled(name: str) -> str | None:
            template = getattr(fields, name)
            if template is None and name != "solution":
                template = getattr(self.config, name)
            if template is None:
                return None
            try:
                return fill_fields(template, row)
            except FieldError as error:
                raise RunError(f"task.{name}: {error}\nThe row is {shown(row)}") from error

        system, prompt = filled("system"), filled("prompt") or ""
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        return Problem(
            id=id,
            suite=suite,
            messages=(*messages, {"role": "user", "content": prompt}),
            answer=filled("answer") or "",
            solution=filled("solution"),
            meta=row,
        )
