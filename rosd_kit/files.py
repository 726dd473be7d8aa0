"""Why something could not be written, whoever says so. Knows nothing of what is written."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Mapping
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RUST = re.compile(r"os error (\d+)|Os \{ code: (\d+)")


def write_failure(error: Exception) -> str | None:
    """Return in plain words why a write failed, or None for an error that is none of the system's.

    safetensors and tokenizers, written in Rust, raise exceptions of their own that only name the system's error.
    """
    if isinstance(error, OSError):
        number = error.errno
    elif told := _RUST.search(str(error)):
        number = int(told.group(1) or told.group(2))
    else:
        return None
    return "the disk is full" if number in _FULL else str(error)


def finite(value: Any) -> Any:
    """Return plain values with NaN and infinity as None, since JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value
