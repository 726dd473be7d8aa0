"""The last boundary of the command line: turns an error that nobody expected into one line, and keeps its traceback in a file.

Errors that a user can fix are `RosdError`s and do not come here.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.errors import shortened
from rosd_kit.plugins.fingerprint import code_files
from rosd_kit.version import __version__

if TYPE_CHECKING:
    from rosd_kit.plugins.report import PluginReport

#: Longest description of an error in the line, in characters.
_LONGEST = 300
_MOST_FRAMES = 3
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


def explain_crash(error: BaseException, plugins: Sequence[PluginReport] = ()) -> str:
    """Return what tells a user about an unexpected error, after writing its traceback to a file.

    It is one line; where code of `plugins` raised the error, their frames follow. The file is in the folder of the run that
    failed, else among the user's state files, else among temporary ones.
    """
    text = " ".join(_text(error).encode("utf-8", "backslashreplace").decode().split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    what = f"{what[:_LONGEST]}{' ...' if len(what) > _LONGEST else ''}{notes}"
    file = _write_traceback(error)
    if frames := _plugin_frames(error, plugins):
        return "\n".join([f"error: {what}", *frames, f"The whole traceback is {f'in {file}' if file else 'above'}"])
    if file is None:
        return f"error: {what}. Please report this, with the traceback above."
    return f"error: {what}. Please report this, with the traceback in {file}"


def explain_path(error: OSError, plugins: Sequence[PluginReport] = ()) -> str | None:
    """Return what tells a user about a path that the system does not take; None for other errors, and for those of plugins."""
    if error.errno not in _NO_PATH or _plugin_frames(error, plugins):
        return None
    return f"error: {shortened(error.filename)} is no path that this system takes: {error.strerror}. Give another one"


def _plugin_frames(error: BaseException, plugins: Sequence[PluginReport]) -> list[str]:
    """Return the last frames of the traceback that are in files of plugins, two lines each; none without any."""
    files = {
        os.path.realpath(file) for report in plugins if report.distribution != "rosd-kit" for file in code_files(report.file)
    }
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.realpath(frame.filename) in files]
    return [
        line
        for frame in frames[-_MOST_FRAMES:]
        for line in (f"  {frame.filename}:{frame.lineno}, in {frame.name}", f"    {(frame.line or '').strip()}")
    ]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # also its __str__ may be at fault
        return "(it cannot be written as text)"


def _write_traceback(error: BaseException) -> Path | None:
    """Return the file with the traceback, or None if no folder takes it; then the traceback is on stderr."""
    text = "".join(_lines(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in _folders(error):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            return folder / name
    print(text, file=sys.stderr)
    return None


def _lines(error: BaseException) -> Iterator[str]:
    yield f"rosd-kit {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    yield f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {' '.join(sys.argv)}\n\n"
    try:
        yield from traceback.format_exception(error)
    except Exception:
        yield from traceback.format_tb(error.__traceback__)


def _folders(error: BaseException) -> Iterator[Path]:
    run = _run_folder(error)
    if run is not None and (run / "recipe.yaml").is_file():  # another file would make an empty folder look used
        yield run
    with suppress(RuntimeError):  # without a home
        yield Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "rosd-kit"
    yield Path(tempfile.gettempdir())


def _run_folder(error: BaseException) -> Path | None:
    """Return the folder of the run in which the error was raised, which some function on its way down holds."""
    module = sys.modules.get("rosd_kit.run.folder")
    trace = error.__traceback__
    while module is not None and trace is not None:
        for value in list(trace.tb_frame.f_locals.values()):
            if isinstance(value, module.RunFolder):
                path: Path = value.path
                return path
        trace = trace.tb_next
    return None
