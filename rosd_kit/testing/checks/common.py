"""What holds in every slot: options, documentation, pickling, and being a function of options and inputs alone."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import pydantic
import torch

from rosd_kit.contracts import Component
from rosd_kit.plugins.registry import fault_of, summary_of
from rosd_kit.testing.check import EVERY, Bench, another, check, demand, does_not_apply, with_parts
from rosd_kit.testing.difference import difference
from rosd_kit.testing.exercise import Exercise, exercise_of

#: Values that an option may be given by mistake.
_JUNK: tuple[Any, ...] = (
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
    """The class fills a slot: it derives from the slot's base, has a name in lower case, and implements every method."""
    demand(not (fault := fault_of(type(component))), str(fault))


@check(EVERY)
def check_is_described(component: Component, bench: Bench) -> None:
    """The class has a docstring of its own, whose first sentence a listing shows: 10 to 200 characters."""
    own = type(component).__doc__
    demand(own and own.strip(), f"{type(component).__name__} has no docstring")
    sentence = summary_of(type(component))
    demand(10 <= len(sentence) <= 200, f"the first sentence has {len(sentence)} characters: {sentence!r}")


@check(EVERY)
def check_options_are_documented(component: Component, bench: Bench) -> None:
    """Every option has a description: a docstring under the field, or pydantic.Field(description=...)."""
    for name, field in type(component).Config.model_fields.items():
        demand((field.description or "").strip(), f"option {name!r} has no description")


@check(EVERY)
def check_options_are_frozen_and_complete(component: Component, bench: Bench) -> None:
    """Options refuse unknown names and cannot be changed once they are set."""
    options = type(component).Config
    values = {**component.config.model_dump(), "no_such_option_": 1}
    try:
        options.model_validate(values)
    except pydantic.ValidationError:
        pass
    else:
        demand(False, "an unknown option is accepted; derive Config from the base's Config and leave model_config alone")
    for name in options.model_fields:
        try:
            setattr(component.config, name, getattr(component.config, name))
        except pydantic.ValidationError:
            continue
        demand(False, f"option {name!r} can be changed after it was set")


@check(EVERY)
def check_options_refuse_nonsense_politely(component: Component, bench: Bench) -> None:
    """A value that is not allowed is a pydantic error, which recipes explain; validators raise ValueError, nothing else."""
    options = type(component).Config
    values = component.config.model_dump()
    for name in options.model_fields:
        for junk in _JUNK:
            try:
                options.model_validate({**values, name: junk})
            except pydantic.ValidationError:
                continue
            except Exception as error:
                demand(False, f"option {name!r} given {junk!r} raises {type(error).__name__}: {error}")


@check(EVERY)
def check_options_survive_the_recipe_file(component: Component, bench: Bench) -> None:
    """Options written as a run's recipe.yaml and read again are equal, or the run could not be resumed."""
    options = type(component).Config
    again = options.model_validate_json(component.config.model_dump_json(), strict=True)
    demand(again == component.config, f"{component.config!r} comes back as {again!r}")


@check(EVERY)
def check_can_be_pickled(component: Component, bench: Bench) -> None:
    """A component that was not used yet can be pickled, for work in other processes; its options come back equal."""
    fresh = another(component)
    try:
        back = pickle.loads(pickle.dumps(fresh))
    except Exception as error:
        demand(False, f"pickling raises {type(error).__name__}: {error}")
    else:
        demand(back.config == fresh.config, f"its options come back as {back.config!r}")


@check(EVERY)
def check_is_a_function_of_its_inputs(component: Component, bench: Bench) -> None:
    """Two components with equal options do the same with equal inputs, whatever the global random state is.

    Randomness comes from the seed or the rng that is handed over; anything else makes runs that cannot be repeated.
    """
    trial = _trial(component)
    component = with_parts(component)
    first = _seeded(1, trial, another(component), trial.inputs(bench))
    second = _seeded(2, trial, another(component), trial.inputs(bench))
    demand(not (found := difference(first, second)), f"two equal components differ: {found}")


@check(EVERY)
def check_remembers_nothing(component: Component, bench: Bench) -> None:
    """Used a second time with the same inputs a component does the same; a resumed run starts with a new one."""
    trial = _trial(component)
    component = another(with_parts(component))
    first = trial.use(component, trial.inputs(bench))
    second = trial.use(component, trial.inputs(bench))
    demand(not (found := difference(first, second)), f"the second use differs from the first: {found}")


@check(EVERY)
def check_inputs_are_left_alone(component: Component, bench: Bench) -> None:
    """What a component is given is as it was afterwards: stages share their values."""
    trial = _trial(component)
    before = trial.inputs(bench)
    inputs = copy.deepcopy(before)
    trial.use(another(with_parts(component)), inputs)
    demand(not (found := difference(before, inputs)), f"an input was changed: {found}")


@check(EVERY)
def check_results_can_be_pickled(component: Component, bench: Bench) -> None:
    """What a component returns can be pickled: several processes hand samples to each other."""
    trial = _trial(component)
    made = trial.use(another(with_parts(component)), trial.inputs(bench))
    try:
        back = pickle.loads(pickle.dumps(made))
    except Exception as error:
        demand(False, f"pickling the result raises {type(error).__name__}: {error}")
    else:
        demand(not (found := difference(made, back)), f"the result comes back changed: {found}")


def _trial(component: Component) -> Exercise:
    if (trial := exercise_of(component)) is None:
        raise does_not_apply(f"{component.kind} components have laws of their own for this")
    return trial


def _seeded(seed: int, trial: Exercise, component: Any, inputs: Any) -> Any:
    """Return what a component does under these global random states, which are put back afterwards."""
    import numpy as np

    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            return trial.use(component, inputs)
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
