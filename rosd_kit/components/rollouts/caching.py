"""What a model calls its cache of keys and values: transformers renamed `past_key_values` to `cache`; other code did not."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def cache_word(model: nn.Module) -> str:
    """Return the name under which `forward` takes a cache."""
    inner: Any = model
    if hasattr(inner, "peft_config"):
        inner = inner.get_base_model()
    kind: Any = type(inner)
    return _word(kind)


@cache
def _word(kind: Any) -> str:
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"
