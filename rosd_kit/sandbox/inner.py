"""What a worker's fork does: confine itself, then answer calls with JSON.

An audit hook watches it. Before the interpreter compiles or runs code that a call brought, imports, opens a file, starts a
thread or does anything else that could outlast the call, the hook writes a mark to the worker, which then ends the fork after
this call. Code that runs afterwards cannot take the mark back.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from rosd_kit.sandbox import frames, landlock, seccomp

#: Longest answer of a call, in bytes.
MAX_ANSWER = 1 << 20
#: The byte that marks a fork as used up.
USED = b"!"
#: Descriptors that a fork may have open.
_DESCRIPTORS = 64
_ANSWERS, _RULESET = _DESCRIPTORS - 1, _DESCRIPTORS - 2
#: Audit events that change nothing: reading an attribute, a frame or an object's id.
_HARMLESS = frozenset({"object.__getattr__", "sys._getframe", "builtins.id"})


def confine(jobs: int, answers: int, ruleset: int | None, memory_limit: int) -> None:
    """Give up all that a call does not need; `ruleset` is None on machines that cannot confine a process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(jobs, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.dup2(answers, _ANSWERS)
    if ruleset is not None:
        os.dup2(ruleset, _RULESET)
    os.closerange(3, _ANSWERS if ruleset is None else _RULESET)
    os.closerange(_DESCRIPTORS, 1 << 16)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_limit:
        with suppress(ValueError, OSError):  # the system's own limit may be lower
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    if ruleset is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
        try:
            landlock.restrict(_RULESET)
            seccomp.install()
        except Exception as error:
            frames.write(_ANSWERS, f"E{type(error).__name__}: {error}".encode())
            os._exit(1)


def answer_calls(function: Callable[[object], object], memory_mib: int) -> None:
    """Answer calls until the worker ends this process."""
    write, watching = os.write, [False]

    def watch(event: str, arguments: object) -> None:
        if watching[0] and event not in _HARMLESS:
            watching[0] = False
            write(_ANSWERS, USED)

    sys.addaudithook(watch)
    while (frame := frames.read(0)) is not None:
        job = pickle.loads(frame)
        watching[0] = True
        answer = _answer(function, job, memory_mib)
        watching[0] = False
        frames.write(_ANSWERS, answer)


def _answer(function: Callable[[object], object], job: object, memory_mib: int) -> bytes:
    try:
        return b"V" + json.dumps(function(job), default=vars).encode()
    except MemoryError:
        return f"EMemoryError: more than {memory_mib} MiB".encode()
    except Exception as error:
        return f"E{type(error).__name__}: {error}"[:400].encode("utf-8", "replace")
