"""Restricts a process to reading Python's own files and the system's libraries, with Landlock.

It cannot be undone, and needs neither root nor a container, but Linux 5.13 or newer. Uses only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

_READ, _READ_DIR, _WRITE = 1 << 2, 1 << 3, 1 << 1
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
# Numbers of the system calls.
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVS = 38


def readable_files(folders: Iterable[str]) -> int:
    """Return the descriptor of a rule set that allows reading below these folders and the system's, and nothing else.

    Raises `OSError` if the kernel has no Landlock.
    """
    version = _call(_CREATE, None, ctypes.c_size_t(0), 1)
    rights = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    ruleset = _call(_CREATE, struct.pack("=Q", rights), ctypes.c_size_t(8), 0)
    paths = {os.path.realpath(path) for path in (*folders, os.path.join(sys.base_prefix, "lib"), *_LIBRARIES)}
    allowed = {path: _READ | _READ_DIR for path in paths if os.path.isdir(path)}
    allowed |= {path: _READ for path in ("/etc/ld.so.cache",) if os.path.exists(path)} | {"/dev/null": _READ | _WRITE}
    for path, access in allowed.items():
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", access, fd), 0)
        os.close(fd)
    return ruleset


def restrict(ruleset: int) -> None:
    """Restrict this process to a rule set and close its descriptor. Raises `OSError` if that fails."""
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no new privileges")
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    value: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if value < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return value
