"""What every component has: a name, options, and the capabilities that it needs and provides."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pydantic

from rosd_kit.options import Config as Options
from rosd_kit.options import present_step
from rosd_kit.text.thinking import Pairs, closes_thinking, strip_thinking
from rosd_kit.types import Completion

#: A time limit that can be waited for.
Seconds = Annotated[float, pydantic.Field(gt=0.0, le=86_400.0)]
#: A number of processes or threads.
Workers = Annotated[int, pydantic.Field(ge=1, le=256)]
#: A limit of memory that the system accepts.
Mebibytes = Annotated[int, pydantic.Field(ge=1, le=1 << 24)]


class Component(ABC):
    """Base class of everything that fills a slot.

    `kind` is the slot's name, set by the slot's base class; `name` is what recipes write. `needs` lists capabilities that
    another chosen component must provide, `provides` those of this one. Both are plain words, checked when the recipe loads.
    `thinking` holds the recipe's own marks of thinking, set after the component is built.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset()
    thinking: Pairs = ()
    _latest: tuple[int, object] | None = None

    class Config(Options):
        """No options."""

    def __init__(self, config: object = None) -> None:
        self.config = config if config is not None else self.Config()

    @property
    def config(self) -> Any:  # an instance of the class's own Config
        """The options. During a step their numbers are those of that step; otherwise schedules stand at step 0."""
        step = present_step()
        if step is None or not isinstance(self._config, Options):
            return self._config
        latest = self._latest  # read once, because another thread may be at another step
        if latest is None or latest[0] != step:
            latest = self._latest = (step, self._config.at_step(step))
        return latest[1]

    @config.setter
    def config(self, options: Any) -> None:
        self._config = options
        self._latest = None

    @classmethod
    def build(cls, options: Any, part: Callable[[object], Component]) -> Component:
        """Return a new component with these options (an instance of its Config).

        Override this in components that contain others of their slot: `part` builds one from its form in a recipe.
        """
        return cls(options)

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        """Return which capabilities this component provides with these options (an instance of its Config)."""
        return cls.provides

    def wants_initial(self) -> bool:
        """Return whether this component needs a copy of the initial weights: a teacher to score, others to sample with them."""
        return False

    def without_thinking(self, text: str) -> str:
        """Return a response without its thinking, in every spelling that `strip_thinking` or the recipe knows."""
        return strip_thinking(text, self.thinking)

    def text_of(self, completion: Completion) -> str:
        """Return a completion's text with its thinking; empty if it was cut off in thinking that the chat template opened."""
        cut_off = completion.begins_in_thinking and completion.finish_reason == "length"
        return "" if cut_off and not closes_thinking(completion.text, self.thinking) else completion.text


def add_options(cls: type[Component], options: type[Options]) -> None:
    """Give a component the options of its slot, also if its Config does not derive from the slot's."""
    own = cls.Config
    if issubclass(options, own):
        cls.Config = options  # type: ignore[misc]
    elif not issubclass(own, options):
        both = pydantic.create_model(own.__name__, __base__=(own, options), __module__=own.__module__, __doc__=own.__doc__)
        both.__qualname__ = own.__qualname__ if "Config" in vars(cls) else f"{cls.__qualname__}.Config"
        cls.Config = both  # type: ignore[misc, assignment]
