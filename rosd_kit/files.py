"""Reads, writes and locks files. Knows nothing of what is in them."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from rosd_kit.errors import RosdError, RunError
from rosd_kit.types import JsonObject

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_RUST = re.compile(r"os error (\d+)|Os \{ code: (\d+)")


def read_json_lines(file: Path, *, damaged: Literal["raise", "drop_end", "skip"] = "raise") -> Iterator[object]:
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
            except (ValueError, RecursionError) as error:
                if damaged == "skip":
                    continue
                why = "it is nested too deep" if isinstance(error, RecursionError) else error
                raise RunError(f"{file}: line {number} is not JSON: {why}. Mend or delete that line.") from error
            yield value


def read_json_object(file: Path) -> JsonObject:
    """Return the object in a JSON file, or an empty one where the file is missing or damaged."""
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}  # a pipe would be waited for
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_atomically(file: Path, parts: Iterable[str | bytes], *, sync: bool = False) -> None:
    """Write a file, whole or not at all: beside its final name first, then renamed. Text is written as UTF-8.

    With `sync` its content is on the disk before it gets its name, so that not even a power failure leaves half a file.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.writing")  # two processes may write the same file
    try:
        with aside.open("wb") as stream:
            stream.writelines(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") for part in parts)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        aside.replace(file)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


@contextmanager
def explain_write_errors(subject: str, remedy: str, kind: type[RosdError] = RunError) -> Iterator[None]:
    """Raise `kind` with "SUBJECT cannot be written: why. REMEDY" when a write in the block fails; other errors pass through."""
    try:
        yield
    except Exception as error:
        if (why := _write_failure(error)) is None:
            raise
        raise kind(f"{subject} cannot be written: {why}. {remedy}") from error


def lock_file(file: Path, *, wait: bool = False, required: bool = False) -> IO[str]:
    """Lock a file, made if need be, until the result is closed or this process ends, however it ends.

    Raises `BlockingIOError` at once when another process holds it, unless `wait` is set. Where the file system has no locks it
    returns without one, or raises `OSError` if the lock is `required`.

    Not `filelock`: where `flock` is missing, it raises, or writes a marker file that a killed process leaves behind, depending
    on its version and the error; and it waits by polling.
    """
    # Without following a link, and without waiting for the other end of a pipe.
    stream = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if required or error.errno not in _NO_LOCKS:
            stream.close()
            raise
    return stream


def is_locked(file: Path) -> bool | None:
    """Return whether another process, or another part of this one, holds `lock_file`; None where that cannot be known."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def finite(value: object) -> object:
    """Return plain values with NaN and infinity as None, since JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _write_failure(error: Exception) -> str | None:
    """Return why a write failed, or None for an error that did not come from the system.

    safetensors and tokenizers are written in Rust: their exceptions carry the system's error only as text.
    """
    if isinstance(error, OSError):
        number = error.errno
    elif match := _RUST.search(str(error)):
        number = int(match[1] or match[2])
    else:
        return None
    if number == errno.ENOENT and isinstance(error, OSError) and error.filename:
        folder = Path(os.fsdecode(error.filename)).parent
        return str(error) if folder.is_dir() else f"there is no folder {str(folder)!r}"
    return "the disk is full" if number in _FULL else str(error)
