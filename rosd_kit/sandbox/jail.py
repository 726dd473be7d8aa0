"""The program inside the sandbox: confines itself, then runs one untrusted program.

Usage: jail.py RESULT_FD LENGTH. The first LENGTH bytes of standard input are the job as JSON, the rest is the program's input.
Uses only the standard library. The confinement cannot be undone: the process can read only Python's own files, write only to
its pipes, and can neither start processes nor reach others.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, TypedDict

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]
import landlock  # type: ignore[import-not-found]  # noqa: E402
import seccomp  # type: ignore[import-not-found]  # noqa: E402

del sys.path[0]


class Job(TypedDict):
    """What `Sandbox.run` was given, with the token and the limits."""

    kind: str
    program: str
    name: str
    arguments: list[object]
    tests: str
    token: str
    seconds: float
    memory_mib: int


def main() -> None:
    """Read the job, confine this process, run the job and write the result."""
    result_fd, length = int(sys.argv[1]), int(sys.argv[2])
    job = json.loads(_read(length))
    try:
        _limit(job)
        landlock.restrict(landlock.readable_files(sys.path))
        seccomp.install()
    except Exception as error:
        os.write(result_fd, f"X{type(error).__name__}: {error}".encode())
        os._exit(3)
    os.write(result_fd, b"R")
    sys.argv = ["program.py"]
    result = _run(job)
    sys.stdout.flush()
    while result:
        result = result[os.write(result_fd, result) :]


def _run(job: Job) -> bytes:
    """Return the function's value as JSON for a call, else the token, which proves that the program ended normally."""
    names: dict[str, Any] = {}  # what the program defines
    names["__name__"] = "__main__" if job["kind"] == "input" else "program"
    exec(compile(job["program"], "program.py", "exec"), names)
    if job["kind"] == "call":
        function = names[job["name"]] if job["name"] in names else getattr(names["Solution"](), job["name"])
        return json.dumps(function(*job["arguments"])).encode()
    if job["kind"] == "tests":
        exec(compile(job["tests"], "tests.py", "exec"), names)
    return job["token"].encode()


def _read(length: int) -> bytes:
    """Read this many bytes of standard input, or what there is before its end."""
    chunks = []
    while length:
        chunks.append(os.read(0, length))
        if not chunks[-1]:
            break
        length -= len(chunks[-1])
    return b"".join(chunks)


def _limit(job: Job) -> None:
    """Set the resource limits of this process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    seconds, memory = int(job["seconds"]) + 1, job["memory_mib"] << 20
    limits = {"CPU": seconds, "AS": memory, "FSIZE": 0, "CORE": 0, "NOFILE": 64, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", 12)  # 12 is RLIMIT_MSGQUEUE, which Python does not define
        resource.setrlimit(number, (value, value))


if __name__ == "__main__":
    main()
