"""The laws of every slot: documented and validated options, pickling, and results that depend on options and inputs only."""

from __future__ import annotations

import copy
import pickle
import random

import pydantic
import torch

from rosd_kit.contracts import Component
from rosd_kit.plugins.registry import fault_of, summary_of
from rosd_kit.testing.check import EVERY, Bench, check, does_not_apply, rebuilt, require, with_loss_parts
from rosd_kit.testing.difference import difference
from rosd_kit.testing.exercise import Exercise, exercise_of

#: Values that a user may give an option by mistake.
_JUNK: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    10**9,
    -0.5,
    1e300,
    float("nan"),
    "",
    "nonsense {",
    "(",
    [],
    ["("],
    {},
    {"x": None},
)


@check(EVERY)
def check_can_be_registered(component: Component, bench: Bench) -> None:
    """The class fills a slot: it derives from the slot's base class, has a lower-case name, and implements every method."""
    require(not (fault := fault_of(type(component))), str(fault))


@check(EVERY)
def check_is_described(component: Component, bench: Bench) -> None:
    """The class has its own docstring; its first sentence, which listings show, has 10 to 200 characters."""
    docstring = type(component).__doc__
    require(docstring and docstring.strip(), f"{type(component).__name__} has no docstring")
    sentence = summary_of(type(component))
    require(10 <= len(sentence) <= 200, f"the first sentence has {len(sentence)} characters: {sentence!r}")


@check(EVERY)
def check_options_are_documented(component: Component, bench: Bench) -> None:
    """Every option has a description: a docstring below the field, or pydantic.Field(description=...)."""
    for name, field in type(component).Config.model_fields.items():
        require((field.description or "").strip(), f"option {name!r} has no description")


@check(EVERY)
def check_options_are_frozen_and_complete(component: Component, bench: Bench) -> None:
    """Options reject unknown names and cannot be changed once they are set."""
    options = type(component).Config
    values = {**component.config.model_dump(), "no_such_option_": 1}
    try:
        options.model_validate(values)
    except pydantic.ValidationError:
        pass
    else:
        require(False, "an unknown option is accepted; derive Config from the base class's Config and do not set model_config")
    for name in options.model_fields:
        try:
            setattr(component.config, name, getattr(component.config, name))
        except pydantic.ValidationError:
            continue
        require(False, f"option {name!r} can be changed after it was set")


@check(EVERY)
def check_invalid_options_raise_validation_errors(component: Component, bench: Bench) -> None:
    """An invalid value raises a pydantic error, which recipes explain: validators raise ValueError and nothing else."""
    options = type(component).Config
    values = component.config.model_dump()
    for name in options.model_fields:
        for junk in _JUNK:
            try:
                options.model_validate({**values, name: junk})
            except pydantic.ValidationError:
                continue
            except Exception as error:
                require(False, f"option {name!r} with the value {junk!r} raises {type(error).__name__}: {error}")


@check(EVERY)
def check_options_round_trip_through_yaml(component: Component, bench: Bench) -> None:
    """Options written to a run's recipe.yaml and read back are equal; otherwise the run could not resume."""
    options = type(component).Config
    read_back = options.model_validate_json(component.config.model_dump_json(), strict=True)
    require(read_back == component.config, f"{component.config!r} is read back as {read_back!r}")


@check(EVERY)
def check_can_be_pickled(component: Component, bench: Bench) -> None:
    """An unused component can be pickled, for work in other processes, and its options stay equal."""
    fresh = rebuilt(component)
    try:
        unpickled = pickle.loads(pickle.dumps(fresh))
    except Exception as error:
        require(False, f"pickling raises {type(error).__name__}: {error}")
    else:
        require(unpickled.config == fresh.config, f"after pickling its options are {unpickled.config!r}")


@check(EVERY)
def check_is_deterministic(component: Component, bench: Bench) -> None:
    """Two components with equal options return equal results for equal inputs, whatever the global random state is.

    Randomness comes from the seed or the rng that is passed in; anything else makes runs that cannot be repeated.
    """
    exercise = _exercise(component)
    component = with_loss_parts(component)
    first = _seeded(1, exercise, rebuilt(component), exercise.inputs(bench))
    second = _seeded(2, exercise, rebuilt(component), exercise.inputs(bench))
    require(not (text := difference(first, second)), f"two equal components differ: {text}")


@check(EVERY)
def check_is_stateless(component: Component, bench: Bench) -> None:
    """Used twice with the same inputs, a component returns the same results: a resumed run starts with a new component."""
    exercise = _exercise(component)
    component = rebuilt(with_loss_parts(component))
    first = exercise.use(component, exercise.inputs(bench))
    second = exercise.use(component, exercise.inputs(bench))
    require(not (text := difference(first, second)), f"the second use differs from the first: {text}")


@check(EVERY)
def check_does_not_change_its_inputs(component: Component, bench: Bench) -> None:
    """A component does not change its inputs: stages share them."""
    exercise = _exercise(component)
    before = exercise.inputs(bench)
    inputs = copy.deepcopy(before)
    exercise.use(rebuilt(with_loss_parts(component)), inputs)
    require(not (text := difference(before, inputs)), f"an input was changed: {text}")


@check(EVERY)
def check_results_can_be_pickled(component: Component, bench: Bench) -> None:
    """A component's results can be pickled: ranks exchange samples."""
    exercise = _exercise(component)
    result = exercise.use(rebuilt(with_loss_parts(component)), exercise.inputs(bench))
    try:
        unpickled = pickle.loads(pickle.dumps(result))
    except Exception as error:
        require(False, f"pickling the result raises {type(error).__name__}: {error}")
    else:
        require(not (text := difference(result, unpickled)), f"pickling changes the result: {text}")


def _exercise(component: Component) -> Exercise:
    if (exercise := exercise_of(component)) is None:
        raise does_not_apply(f"{component.kind} components have their own laws for this")
    return exercise


def _seeded(seed: int, exercise: Exercise, component: Component, inputs: object) -> object:
    """Return a component's results with this seed in the global random states; restore the states afterwards."""
    import numpy as np

    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            return exercise.use(component, inputs)
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
