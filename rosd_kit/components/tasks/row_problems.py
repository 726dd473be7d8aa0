"""Maps a row of data to a problem with field templates, and finds what makes a row unusable. Reads no data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from rosd_kit.contracts import Config, GoldCheck
from rosd_kit.data.fields import FieldError, check_fields, fill_fields, fill_optional, missing_field
from rosd_kit.data.rows import Row, scrubbed
from rosd_kit.errors import RosdError, RunError, did_you_mean, shortened
from rosd_kit.text.validity import why_unfit
from rosd_kit.types import Message, Problem

_LONGEST = "task.max_characters"


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


def problem_of(row: Row, fields: Fields, *, id: str, suite: str, split_seed: int) -> Problem:
    """Return a row's problem. Raises `RunError` that names the template and shows the row where they do not fit."""
    if row.fault:
        raise RunError(f"task.path: {row.fault}\nThe row is {row}")
    values = row if fields.options is None else _shuffle_options(row, fields.options, split_seed)
    with _naming_field("system", row):
        system = None if fields.system is None else fill_optional(fields.system, values)
    with _naming_field("prompt", row):
        prompt = fill_fields(fields.prompt, values)
    with _naming_field("answer", row):
        answer = fill_fields(fields.answer, values)
    with _naming_field("solution", row):
        solution = None if fields.solution is None else fill_optional(fields.solution, values)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    return Problem(
        id=id,
        suite=suite,
        messages=(*messages, {"role": "user", "content": prompt}),
        answer=answer,
        solution=solution,
        meta=scrubbed(row),
    )


def why_unusable(problem: Problem, row: Row, check_gold: GoldCheck, longest: int) -> str | None:
    """Return why a row's problem cannot be trained or measured on, with the row, or None.

    What a model reads has at most `longest` characters; whatever is used holds no lone surrogate and no NUL.
    """
    texts = {"system" if message["role"] == "system" else "prompt": message["content"] for message in problem.messages}
    faults = [
        f"task.{name}: the text {fault}." for name, text in texts.items() if (fault := why_unfit(text, longest, _LONGEST))
    ]
    if fault := why_unfit(problem.solution or "", longest, _LONGEST):
        faults.append(f"task.solution: the text {fault}.")
    if fault := why_unfit(problem.answer):
        faults.append(f"task.answer: the text {fault}.")
    if not texts["prompt"].strip():
        faults.append("task.prompt: the text is empty.")
    if not faults and (fault := _gold_fault(problem, check_gold)):
        faults.append(f"task.answer: the right answer {fault}. No response to this problem could be right.")
    return f"{faults[0]}\nThe row is {row}" if faults else None


def _gold_fault(problem: Problem, check_gold: GoldCheck) -> str | None:
    """Ask the verifier, which a plugin may have written, about a right answer."""
    try:
        return check_gold(problem)
    except RosdError:
        raise
    except Exception as error:
        return f"{shortened(problem.answer)} makes the verifier's check_gold fail ({type(error).__name__}: {error})"


def check_optional_fields(rows: Sequence[Row], fields: Fields) -> None:
    """Raise `RunError` if a template that may be null names a field that none of these rows has."""
    for name, template in (("system", fields.system), ("solution", fields.solution)):
        if template is None:
            continue
        reasons = [missing_field(template, row) for row in rows]
        if all(reasons):
            raise RunError(f"task.{name}: {reasons[0]}\nThe row is {rows[0]}")


def summary_of_faults(faults: Sequence[tuple[Row, str]], total: int, path: str) -> str:
    """Return a message about the rows that do not fit: how many, the first with its reason, and where others are."""
    (row, fault), *others = faults
    also = f"\nSo do rows {_listed(other.number for other, _ in others)}." if others else ""
    return f"task.path: {len(faults)} of {total} rows of {path!r} do not fit. Row {row.number}: {fault}{also}"


def _listed(numbers: Iterable[int], most: int = 8) -> str:
    shown = list(map(str, numbers))
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _shuffle_options(row: Row, options: Options, split_seed: int) -> Row:
    """Return the row with a shuffled list `options` and the index `right` of the right one; the texts decide the order."""
    names = [options.right, *options.wrong]
    if missing := [name for name in names if row.get(name) is None]:
        near = did_you_mean(missing[0], [name for name in row if name != missing[0]])
        raise RunError(f"task.options: there is no {missing[0]!r}.{near}\nThe row is {row}")
    texts = [str(row[name]).strip() for name in names]
    order = random.Random(f"options {split_seed} {texts}").sample(range(len(texts)), len(texts))
    return Row({**row, "options": [texts[index] for index in order], "right": order.index(0)})


@contextmanager
def _naming_field(field: str, row: Row) -> Iterator[None]:
    """Turn a `FieldError` into a `RunError` that names the template and shows the row."""
    try:
        yield
    except FieldError as error:
        raise RunError(f"task.{field}: {error}\nThe row is {row}") from error
