"""Messages over pipes: eight bytes of length, then the content. Uses only the standard library."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable

_LENGTH = struct.Struct(">Q")
#: Bytes before the content of a message.
HEADER = _LENGTH.size


def write(pipe: int, content: bytes) -> None:
    """Write one message. Raises `OSError` if the reader has ended."""
    unsent = memoryview(_LENGTH.pack(len(content)) + content)
    while unsent:
        unsent = unsent[os.write(pipe, unsent[: 1 << 20]) :]


def content(received: bytes) -> bytes | None:
    """Return the content of the message that these bytes are, or None if they are not all of it."""
    if len(received) < HEADER:
        return None
    (length,) = _LENGTH.unpack(received[:HEADER])
    return received[HEADER : HEADER + length] if len(received) >= HEADER + length else None


def read(pipe: int, goes_on: Callable[[], bool] = lambda: True, seconds: float = float("inf")) -> bytes | None:
    """Return the next message; None if the pipe ends, the time is up, or `goes_on`, asked every second, says no."""
    end = time.monotonic() + seconds
    header = _read(pipe, HEADER, goes_on, end)
    return None if header is None else _read(pipe, _LENGTH.unpack(header)[0], goes_on, end)


def _read(pipe: int, length: int, goes_on: Callable[[], bool], end: float) -> bytes | None:
    content = bytearray()
    while len(content) < length:
        wait = min(1.0, end - time.monotonic())
        if wait < 0 or not goes_on():
            return None
        if select.select([pipe], [], [], wait)[0]:
            data = os.read(pipe, min(length - len(content), 1 << 20))
            if not data:
                return None
            content += data
    return bytes(content)
