"""Reads and writes files: JSON lines, and why a write failed. Knows nothing of what the files mean."""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rosd_kit.errors import RunError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RUST = re.compile(r"os error (\d+)|Os \{ code: (\d+)")


def read_json_lines(file: Path, *, damaged: Literal["raise", "drop_end", "skip"] = "raise") -> Iterator[Any]:
    """Yield the value of each line of a file of JSON lines; blank lines are left out.

    `damaged` says what happens to a line that is not JSON: `raise` raises `RunError` with its number; `drop_end` does the same
    but leaves out a last line without a newline, which a crash cut off; `skip` leaves out every such line.
    """
    with file.open(encoding="utf-8-sig", errors="surrogatepass") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (damaged == "drop_end" and not line.endswith("\n")):
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                if damaged == "skip":
                    continue
                raise RunError(f"{file}: line {number} is not JSON: {error}. Mend or delete that line.") from error
            yield value


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
