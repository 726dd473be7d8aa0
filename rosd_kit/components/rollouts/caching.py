"""Name of the argument under which a model's `forward` takes its key-value cache.

Newer versions of transformers renamed `past_key_values` to `cache`; other model code did not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def cache_argument(model: nn.Module) -> str:
    """Return the argument name for a key-value cache; looks through a peft wrapper."""
    network: Any = model
    if hasattr(network, "peft_config"):
        network = network.get_base_model()
    return _argument_of(type(network).forward)


@cache
def _argument_of(forward: Callable[..., object]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
