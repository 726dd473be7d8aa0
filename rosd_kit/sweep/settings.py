"""Reads what the user asks of a sweep: command-line words, a sweep file (`*.sweep.yaml`), or a file that words change.

Knows how sweeps are written. `combinations` decides which combinations are possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.options import Config
from rosd_kit.recipe import SHIPPED
from rosd_kit.recipe.shipped import find, label
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.recipe.sources import read_file
from rosd_kit.recipe.validation import validated
from rosd_kit.sweep.axes import Axis, is_same_value, make_axis, override_text, parse_axis, parse_integers, replace_axis

SUFFIX = ".sweep.yaml"
_DOCS = "docs/sweeps.md"
_FIXED_FIELDS = ("name",)

DesignKind = Literal["grid", "pairwise", "one_at_a_time", "random"]
Values = list[object] | dict[str, object] | str | int | float | bool


class Rule(Config):
    """Skips the matching combinations, or sets more fields in them."""

    when: dict[str, Values] = Field(min_length=1)
    """Axes and the values for which the rule holds; all axes must match."""
    skip: bool = False
    """Skip these combinations."""
    set: dict[str, object] = Field(default_factory=dict)
    """Set these fields in them."""
    because: str = Field(min_length=1)
    """The reason, shown wherever the rule applies."""


class RandomDesign(Config):
    """A random sample of the combinations, without replacement."""

    random: PositiveInt
    """Number of combinations."""
    seed: int = 0
    """Seed of the sample."""


class SweepFile(Config):
    """The contents of a sweep file."""

    sweep: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the sweep."""
    recipe: str
    """The recipe that all variants are compared with: a file relative to this one, or a shipped name."""
    profile: str | None = None
    """Profile to run with; overrides the recipe's own."""
    set: dict[str, object] = Field(default_factory=dict)
    """Fields with the same value in all trials, for example `steps: 30`."""
    axes: dict[str, Values] = Field(min_length=1)
    """Fields and the values they take; `0..3` is a range."""
    seeds: Values | None = None
    """Seeds; every combination runs with each of them. Default: the recipe's own seed."""
    design: Literal["grid", "pairwise", "one_at_a_time"] | RandomDesign = "grid"
    """Which combinations to run."""
    rules: list[Rule] = Field(default_factory=list)
    """Exceptions for some combinations."""


@dataclass(frozen=True)
class Design:
    """Which combinations of the axes to run. `count` and `seed` apply to a random design."""

    kind: DesignKind = "grid"
    count: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"random {self.count}, seed {self.seed}" if self.kind == "random" else self.kind


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A recipe, its axes, fixed overrides (`field=value`) and seeds (empty: the recipe's own)."""

    name: str
    recipe: str
    profile: str | None = None
    fixed: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    seeds: tuple[int, ...] = ()
    design: Design = Design()
    rules: tuple[Rule, ...] = ()
    file: SourceFile | None = None
    """The sweep file that wrote what is not in `own_words`; None for a shipped one."""
    own_words: frozenset[str] = frozenset()
    """The fields that the command line set."""
    trusts_files: bool = False
    """Whether all files may set options that need trust."""

    def written(self, fields: Iterable[str], from_rules: Iterable[str]) -> dict[str, SourceFile | None]:
        """Return the sweep file for each overridden field that it wrote; rules are always its own."""
        return dict.fromkeys([*(field for field in fields if field not in self.own_words), *from_rules], self.file)


def read_sweep(
    source: str,
    words: Sequence[str] = (),
    profile: str | None = None,
    design: Design | None = None,
    *,
    trust: bool = False,
) -> Sweep:
    """Return the sweep of a recipe or a sweep file, changed by command-line words.

    A word with several values is an axis; a word with one value is fixed. With `trust`, all files may set options that need
    trust. Raises `RecipeError` for invalid input and when nothing varies.
    """
    sweep = _from_file(find_sweep(source)) if source.endswith(SUFFIX) else Sweep(name=find(source).stem, recipe=source)
    for axis in map(parse_axis, words):
        sweep = _with_axis(replace(sweep, own_words=sweep.own_words | {axis.field}), axis)
    sweep = replace(sweep, profile=profile or sweep.profile, design=design or sweep.design, trusts_files=trust)
    if not sweep.axes and len(sweep.seeds) < 2:
        raise RecipeError("sweep: nothing varies. Give a field several values: localizer=error_quote,full or seed=0..2")
    for rule in sweep.rules:
        _check_rule(rule, sweep)
    return sweep


def find_sweep(source: str) -> Path:
    """Return the path of a sweep file; `recipes/...` may also name a shipped one.

    Raises `RecipeError` with the closest shipped name when there is no such file.
    """
    shipped = [f"recipes/{path.relative_to(SHIPPED).as_posix()}" for path in sorted(SHIPPED.rglob(f"*{SUFFIX}"))]
    if Path(source).is_file():
        return Path(source)
    if source in shipped:
        return SHIPPED / source.removeprefix("recipes/")
    raise RecipeError(f"no file {source!r}.{did_you_mean(source, shipped)} Shipped sweeps: {', '.join(shipped)}")


def _from_file(path: Path) -> Sweep:
    where = label(path)
    written, file = read_file(path)
    content = validated(SweepFile, written, path="", see=_DOCS, source=lambda _: where)
    if isinstance(content.design, RandomDesign):
        design = Design("random", content.design.random, content.design.seed)
    else:
        design = Design(content.design)
    sweep = Sweep(
        name=content.sweep,
        recipe=_beside(path, content.recipe),
        profile=content.profile,
        fixed=tuple(overrides(content.set)),
        design=design,
        rules=tuple(_rule_beside(path, rule) for rule in content.rules),
        file=file,
    )
    for field, values in content.axes.items():
        if field == "seed":
            raise RecipeError(f"{where}: axes.seed: write the seeds as `seeds: 0..2`; every combination runs with each of them")
        texts = value_texts(values)
        texts = [_beside(path, text) for text in texts] if field == "recipe" else texts
        sweep = replace(sweep, axes=(*sweep.axes, make_axis(field, texts)))
    return sweep if content.seeds is None else _with_axis(sweep, make_axis("seed", value_texts(content.seeds)))


def _beside(file: Path, recipe: str) -> str:
    """Return a recipe of a sweep file: a shipped name as it is, a path relative to the file."""
    return str(file.parent / recipe) if recipe.endswith((".yaml", ".yml")) else recipe


def _rule_beside(file: Path, rule: Rule) -> Rule:
    if "recipe" not in rule.when or isinstance(rule.when["recipe"], dict):
        return rule
    recipes: list[object] = [_beside(file, text) for text in value_texts(rule.when["recipe"])]
    return rule.model_copy(update={"when": {**rule.when, "recipe": recipes}})


def overrides(values: Mapping[str, object]) -> list[str]:
    """Return each field and value as `field=value`."""
    return [f"{field}={override_text(value)}" for field, value in values.items()]


def value_texts(values: Values) -> list[str]:
    """Return the values of a sweep file as override texts."""
    return [override_text(value) for value in (values if isinstance(values, list) else [values])]


def _with_axis(sweep: Sweep, axis: Axis) -> Sweep:
    """Return the sweep with a field varied, or fixed if the axis has one value; replaces what it had for that field."""
    if axis.field == "profile" and len(axis.values) == 1:
        return replace(sweep, profile=axis.values[0])
    if axis.field in _FIXED_FIELDS:
        raise RecipeError(f"{axis.field}: cannot be varied, since it does not change what a trial does. Vary another field")
    if axis.field == "seed":
        return replace(sweep, seeds=parse_integers(axis))
    fixed = tuple(word for word in sweep.fixed if word.partition("=")[0] != axis.field)
    axes = tuple(other for other in sweep.axes if other.field != axis.field)
    if len(axis.values) == 1 and axis.field != "recipe":
        return replace(sweep, fixed=(*fixed, f"{axis.field}={axis.values[0]}"), axes=axes)
    return replace(sweep, fixed=fixed, axes=replace_axis(sweep.axes, axis))


def _check_rule(rule: Rule, sweep: Sweep) -> None:
    fields = [axis.field for axis in sweep.axes]
    for field in rule.when:
        if field not in fields:
            raise RecipeError(f"rules: {field!r} is not an axis.{did_you_mean(field, fields)} Axes: {', '.join(fields)}")
    if rule.skip == bool(rule.set):
        raise RecipeError(
            f"rules: the rule for {rule.when} must either skip or set something: write skip: true, or set: {{...}}"
        )


def matching_rules(rules: Iterable[Rule], assignment: Mapping[str, str]) -> list[Rule]:
    """Return the rules that hold for these axis values."""
    return [rule for rule in rules if all(_matches(values, assignment.get(field)) for field, values in rule.when.items())]


def _matches(values: Values, text: str | None) -> bool:
    return text is not None and any(is_same_value(text, value) for value in value_texts(values))
