"""Numbers that change from step to step: their values, and the options that hold them."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from typing import Annotated, ClassVar, Self

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rosd_kit.contracts import Gate
from rosd_kit.options import Config, Fixed, Schedule, options_at
from rosd_kit.options.config import is_numeric
from rosd_kit.settings import OptimizerSettings


def schedule(**fields: object) -> Schedule:
    return Schedule.model_validate({"from": 1.0, "to": 0.0, "steps": 4, **fields})


def values(one: Schedule, steps: int) -> list[float]:
    return [one.value(step) for step in range(steps)]


class Inner(Config):
    share: float = Field(default=0.5, gt=0.0, le=1.0)


class Options(Config):
    """Every kind of numeric field."""

    rate: PositiveFloat = 1.0
    count: PositiveInt = 3
    clip: float | None = None
    word: float | str = "auto"
    fixed: Annotated[PositiveInt, Fixed("the pool is started once")] = 2
    flag: bool = False
    pair: tuple[float, float] = (0.1, 0.2)
    inner: Inner = Inner()
    many: list[Inner] = Field(default_factory=list)
    by_name: dict[str, Inner] = Field(default_factory=dict)


def loaded(**fields: object) -> Options:
    """Return options as a recipe's file gives them."""
    return Options.model_validate_json(json.dumps(fields), strict=True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1, 0.75, 0.5, 0.25, 0, 0, 0]),
        ({"after": 2}, [1, 1, 1, 0.75, 0.5, 0.25, 0]),
        ({"warmup": 2}, [0.5, 1, 1, 0.75, 0.5, 0.25, 0]),
        ({"warmup": 2, "after": 3}, [0.5, 1, 1, 1, 0.75, 0.5, 0.25]),
        ({"shape": "step"}, [1, 1, 1, 1, 0, 0, 0]),
        ({"shape": "step", "every": 2}, [1, 1, 0.5, 0.5, 0, 0, 0]),
        ({"shape": "step", "every": 3}, [1, 1, 1, 0.25, 0, 0, 0]),
        ({"shape": "cosine"}, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0, 0]),
        ({"from": 0.5, "to": 0.8, "steps": 2}, [0.5, 0.65, 0.8, 0.8, 0.8, 0.8, 0.8]),
    ],
    ids=str,
)
def test_values_by_hand(fields, expected):
    assert values(schedule(**fields), 7) == pytest.approx(expected)


@given(
    st.floats(-10, 10), st.floats(-10, 10), st.integers(1, 50), st.integers(0, 20),
    st.sampled_from(["linear", "cosine", "step"]),
)  # fmt: skip
def test_values_go_from_one_end_to_the_other_and_never_back(start, to, steps, after, shape):
    one = schedule(**{"from": start, "to": to}, steps=steps, after=after, shape=shape)
    found = values(one, after + steps + 3)
    assert found[: after + 1] == [start] * (after + 1) and found[after + steps :] == [to] * 3
    signed = found if start <= to else [-value for value in found]
    assert all(a <= b + 1e-9 for a, b in pairwise(signed))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup": 3, "after": 2}, "after: 2 is before the end of the warm-up; give 3 or more"),
        ({"every": 2}, "every: only the shape step jumps, not linear"),
        ({"shape": "step", "every": 5}, "every: 5 is more than the 4 steps"),
        ({"to": math.inf}, "finite number"),
        ({"steps": 0}, "greater than 0"),
        ({"until": 3}, "Extra inputs"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        schedule(**fields)


def test_options_hold_the_value_of_the_step_and_keep_the_schedule():
    options = loaded(rate={"from": 1.0, "to": 0.5, "steps": 2}, pair=[0.3, 0.4])
    assert options.rate == 1.0 and options.pair == (0.3, 0.4)
    assert [options.at_step(step).rate for step in range(4)] == [1.0, 0.75, 0.5, 0.5]
    assert options.at_step(1).schedules() == {} and options.at_step(1) == loaded(rate=0.75, pair=[0.3, 0.4])
    assert options.model_dump(mode="json")["rate"] == {"from": 1.0, "to": 0.5, "steps": 2, "shape": "linear"}
    assert loaded(**options.model_dump(mode="json")) == options == pickle.loads(pickle.dumps(options))
    assert options != loaded(pair=[0.3, 0.4]) and options.model_copy(update={"rate": 2.0}).schedules() == {}
    plain = loaded()
    assert plain.at_step(5) is plain


def test_whole_numbers_are_rounded():
    options = loaded(count={"from": 4, "to": 1, "steps": 6})
    found = [options.at_step(step).count for step in range(8)]
    assert found == [4, 4, 3, 2, 2, 2, 1, 1] and all(isinstance(value, int) for value in found)
    assert options.model_dump(mode="json")["count"] == {"from": 4, "to": 1, "steps": 6, "shape": "linear"}
    with pytest.raises(pydantic.ValidationError, match="valid integer"):
        loaded(count={"from": 4, "to": 1.5, "steps": 6})


def test_schedules_below_a_field_are_found_and_followed():
    half = {"share": {"from": 1.0, "to": 0.5, "steps": 1}}
    options = loaded(inner=half, many=[{}, half], by_name={"x": half}, clip={"from": 2, "to": 1, "steps": 1})
    assert list(options.schedules()) == ["clip", "inner.share", "many.1.share", "by_name.x.share"]
    later = options.at_step(1)
    assert (later.clip, later.inner.share, later.many[1].share, later.by_name["x"].share) == (1.0, 0.5, 0.5, 0.5)
    assert later.many[0] is options.many[0]


@pytest.mark.parametrize(
    ("fields", "where", "message"),
    [
        ({"rate": {"from": 1, "to": 0, "steps": 3}}, ("rate",), "greater than 0"),
        ({"inner": {"share": {"from": 0.5, "to": 1.5, "steps": 3}}}, ("inner", "share"), "less than or equal to 1"),
        ({"rate": {"from": 1, "steps": 3}}, ("rate", "to"), "required"),
        ({"fixed": {"from": 1, "to": 2, "steps": 3}}, ("fixed",), "cannot be used here: the pool is started once. Give one"),
        ({"flag": {"from": 0, "to": 1, "steps": 3}}, ("flag",), "valid boolean"),
        ({"pair": {"from": 0, "to": 1, "steps": 3}}, ("pair",), "valid array"),
    ],
    ids=str,
)
def test_what_an_option_cannot_be_is_refused_at_its_place(fields, where, message):
    with pytest.raises(pydantic.ValidationError) as caught:
        loaded(**fields)
    detail = caught.value.errors()[0]
    assert detail["loc"] == where and message in detail["msg"]


def test_checks_between_options_hold_at_every_step():
    class Pair(Config):
        low: float = 0.0
        high: float = 1.0

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low >= self.high:
                raise ValueError(f"low {self.low} is not below high {self.high}")
            return self

    assert Pair.model_validate({"low": {"from": 0, "to": 0.9, "steps": 3}}).low == 0.0
    with pytest.raises(pydantic.ValidationError, match=r"low 1.0 is not below high 1.0"):
        Pair.model_validate({"low": {"from": 0, "to": 1.5, "steps": 3}})


def test_only_single_numbers_take_a_schedule():
    assert [name for name, field in Options.model_fields.items() if is_numeric(field.annotation)] == [
        "rate", "count", "clip", "word", "fixed",
    ]  # fmt: skip
    properties = Options.model_json_schema()["properties"]
    takes = [name for name, written in properties.items() if "Schedule" in json.dumps(written)]
    assert takes == ["rate", "count", "clip", "word"]


def test_a_whole_class_can_be_fixed():
    class Pool(Config):
        fixed_because: ClassVar[str] = "workers are started once"
        workers: int = 2

    with pytest.raises(pydantic.ValidationError, match="workers are started once"):
        Pool.model_validate({"workers": {"from": 1, "to": 2, "steps": 3}})


def test_a_component_has_the_options_of_the_step():
    class Half(Gate):
        name = "half"

        class Config(Gate.Config):
            """One number."""

            share: float = 0.5

        def decide(self, group):
            raise NotImplementedError

    gate = Half(Half.Config.model_validate({"share": {"from": 0.5, "to": 0.8, "steps": 3}}))
    written = gate.config
    with options_at(1):
        assert gate.config.share == pytest.approx(0.6) and gate.config is gate.config
        with options_at(3):
            assert gate.config.share == 0.8
        assert gate.config.share == pytest.approx(0.6)
    assert gate.config is written and gate.config.schedules() == {"share": written.schedules()["share"]}
    gate.config = Half.Config(share=0.25)
    with options_at(1):
        assert gate.config.share == 0.25


def test_a_scheduled_rate_excludes_warm_up_and_decay():
    rate = {"from": 1e-4, "to": 1e-5, "steps": 3}
    settings = OptimizerSettings.model_validate({"lr": rate})
    assert (settings.warmup_steps, settings.decay) == (0, "constant")
    assert OptimizerSettings.model_validate(settings.model_dump()) == settings
    for option, value in (("warmup_steps", 3), ("decay", "cosine"), ("schedule_steps", 5)):
        with pytest.raises(pydantic.ValidationError, match=f"lr has a schedule; set {option}=") as caught:
            OptimizerSettings.model_validate({"lr": rate, option: value})
        assert caught.value.errors()[0]["loc"] == (option,)
