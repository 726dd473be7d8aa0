"""What is asked of a sweep: by words of the command line, by a sweep file, or by a file that words change.

A sweep file ends in `.sweep.yaml`. It knows how things are written; which of them are possible is for `cells` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, StringConstraints

from rosd_kit.contracts import Config
from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.recipe import SHIPPED
from rosd_kit.recipe.sources import find, label, read_yaml
from rosd_kit.recipe.validation import validated
from rosd_kit.sweep.axes import Axis, as_text, integers, make_axis, read_axis, replaced

SUFFIX = ".sweep.yaml"
_SEE = "docs/sweeps.md"
_NEVER = ("name",)

Kind = Literal["grid", "pairwise", "one_at_a_time", "random"]
Values = list[Any] | str | int | float | bool


class Rule(Config):
    """What holds for some combinations: they are left out, or something more is set in them."""

    when: dict[str, Values] = Field(min_length=1)
    """Axis and the values for which the rule holds; of several axes all must agree."""
    skip: bool = False
    """Leave these combinations out."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Set these fields in them."""
    because: str = Field(min_length=1)
    """Told wherever the rule applies."""


class RandomDesign(Config):
    """Combinations drawn without putting back."""

    random: PositiveInt
    """How many."""
    seed: int = 0
    """Which ones."""


class SweepFile(Config):
    """A sweep as it is written in a file."""

    sweep: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Its name."""
    recipe: str
    """The recipe that everything is compared with: a file relative to this one, or a shipped name."""
    profile: str | None = None
    """Where to run; wins over the recipe's own."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields that are the same in all trials, such as `steps: 30`."""
    axes: dict[str, Values] = Field(min_length=1)
    """Fields and the values they take; `0..3` is a range."""
    seeds: Values | None = None
    """Seeds of which every combination is run; the recipe's own unless given."""
    design: Literal["grid", "pairwise", "one_at_a_time"] | RandomDesign = "grid"
    """Which combinations are run."""
    rules: list[Rule] = Field(default_factory=list)
    """What holds for some of them."""


@dataclass(frozen=True)
class Design:
    """Which combinations of the axes are run; `count` and `seed` are those of a random one."""

    kind: Kind = "grid"
    count: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"random {self.count}, seed {self.seed}" if self.kind == "random" else self.kind


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is asked: a recipe, what is varied, what is fixed (`field=value`), and which seeds (none: the recipe's own)."""

    name: str
    recipe: str
    profile: str | None = None
    fixed: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    seeds: tuple[int, ...] = ()
    design: Design = Design()
    rules: tuple[Rule, ...] = ()


def read_sweep(what: str, words: Sequence[str] = (), profile: str | None = None, design: Design | None = None) -> Sweep:
    """Return the sweep of a recipe or a sweep file, with what the words of the command line add or replace.

    A word with several values is an axis, one with a single value is fixed. Raises `RecipeError` for what is written
    wrongly, and when nothing is varied.
    """
    sweep = _from_file(find_sweep(what)) if what.endswith(SUFFIX) else Sweep(name=find(what).stem, recipe=what)
    for axis in map(read_axis, words):
        sweep = _changed(sweep, axis)
    sweep = replace(sweep, profile=profile or sweep.profile, design=design or sweep.design)
    if not sweep.axes and len(sweep.seeds) < 2:
        raise RecipeError("sweep: nothing is varied. Give a field several values: localizer=error_quote,full or seed=0..2")
    for rule in sweep.rules:
        _check_rule(rule, sweep)
    return sweep


def find_sweep(what: str) -> Path:
    """Return the sweep file of a path; `recipes/...` also means the shipped one. Raises `RecipeError` with the nearest."""
    shipped = [f"recipes/{path.relative_to(SHIPPED).as_posix()}" for path in sorted(SHIPPED.rglob(f"*{SUFFIX}"))]
    if Path(what).is_file():
        return Path(what)
    if what in shipped:
        return SHIPPED / what.removeprefix("recipes/")
    raise RecipeError(f"no file {what!r}.{did_you_mean(what, shipped)} Shipped sweeps: {', '.join(shipped)}")


def _from_file(path: Path) -> Sweep:
    where = label(path)
    asked = validated(SweepFile, read_yaml(path), path="", see=_SEE, source=lambda _: where)
    recipe = path.parent / asked.recipe if asked.recipe.endswith((".yaml", ".yml")) else asked.recipe
    design = Design("random", asked.design.random, asked.design.seed) if isinstance(asked.design, RandomDesign) else None
    sweep = Sweep(
        name=asked.sweep,
        recipe=str(recipe),
        profile=asked.profile,
        fixed=tuple(overrides(asked.set)),
        design=design or Design(asked.design if isinstance(asked.design, str) else "grid"),
        rules=tuple(asked.rules),
    )
    for field, values in asked.axes.items():
        if field == "seed":
            raise RecipeError(
                f"{where}: axes.seed: write the seeds as `seeds: 0..2`; every combination is run with all of them"
            )
        sweep = replace(sweep, axes=(*sweep.axes, make_axis(field, listed(values))))
    return sweep if asked.seeds is None else _changed(sweep, make_axis("seed", listed(asked.seeds)))


def overrides(values: dict[str, Any]) -> list[str]:
    """Return `field=value` for each."""
    return [f"{field}={as_text(value)}" for field, value in values.items()]


def listed(values: Values) -> list[str]:
    """Return the values of a file as texts."""
    return [as_text(value) for value in (values if isinstance(values, list) else [values])]


def _changed(sweep: Sweep, axis: Axis) -> Sweep:
    """Return the sweep with one field varied or fixed anew."""
    if axis.field == "profile" and len(axis.values) == 1:
        return replace(sweep, profile=axis.values[0])
    if axis.field in _NEVER:
        raise RecipeError(f"{axis.field}: cannot be varied: trials are told apart by what they do")
    if axis.field == "seed":
        return replace(sweep, seeds=integers(axis))
    rest = tuple(word for word in sweep.fixed if word.partition("=")[0] != axis.field)
    axes = tuple(other for other in sweep.axes if other.field != axis.field)
    if len(axis.values) == 1 and axis.field != "recipe":
        return replace(sweep, fixed=(*rest, f"{axis.field}={axis.values[0]}"), axes=axes)
    return replace(sweep, fixed=rest, axes=replaced(sweep.axes, axis))


def _check_rule(rule: Rule, sweep: Sweep) -> None:
    fields = [axis.field for axis in sweep.axes]
    for field in rule.when:
        if field not in fields:
            raise RecipeError(f"rules: {field!r} is not an axis.{did_you_mean(field, fields)} Axes: {', '.join(fields)}")
    if rule.skip == bool(rule.set):
        raise RecipeError(
            f"rules: the rule for {rule.when} must either skip or set something: write skip: true, or set: {{...}}"
        )


def applying(rules: Iterable[Rule], settings: dict[str, str]) -> list[Rule]:
    """Return the rules that hold for these settings of the axes."""
    return [rule for rule in rules if all(settings.get(field) in listed(values) for field, values in rule.when.items())]
