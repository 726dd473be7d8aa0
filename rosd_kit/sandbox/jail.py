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
import struct
import sys
from typing import Any

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]
import seccomp  # type: ignore[import-not-found]  # noqa: E402

del sys.path[0]

_READ, _READ_DIR, _WRITE = 1 << 2, 1 << 3, 1 << 1
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


def main() -> None:
    """Read the job, confine this process, run the job and write the result."""
    result_fd, length = int(sys.argv[1]), int(sys.argv[2])
    job = json.loads(_read(length))
    try:
        _limit(job)
        _confine_files()
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


def _run(job: dict[str, Any]) -> bytes:
    """Return the function's value as JSON for a call, else the token, which proves that the program ended normally."""
    names: dict[str, Any] = {"__name__": "__main__" if job["kind"] == "input" else "program"}
    exec(compile(job["program"], "program.py", "exec"), names)
    if job["kind"] == "call":
        function = names[job["name"]] if job["name"] in names else getattr(names["Solution"](), job["name"])
        return json.dumps(function(*job["arguments"])).encode()
    if job["kind"] == "tests":
        exec(compile(job["tests"], "tests.py", "exec"), names)
    token: str = job["token"]
    return token.encode()


def _read(length: int) -> bytes:
    """Read this many bytes of standard input, or what there is before its end."""
    chunks = []
    while length:
        chunks.append(os.read(0, length))
        if not chunks[-1]:
            break
        length -= len(chunks[-1])
    return b"".join(chunks)


def _limit(job: dict[str, Any]) -> None:
    """Set the resource limits of this process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    seconds, memory = int(job["seconds"]) + 1, job["memory_mib"] << 20
    limits = {"CPU": seconds, "AS": memory, "FSIZE": 0, "CORE": 0, "NOFILE": 64, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", 12)  # 12 is RLIMIT_MSGQUEUE, which Python does not define
        resource.setrlimit(number, (value, value))


def _confine_files() -> None:
    """Allow no access to files except reading Python's own and the system's libraries, with Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        value: int = libc.syscall(number, *arguments)
        if value < 0:
            raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
        return value

    # 444 to 446 are landlock_create_ruleset, landlock_add_rule and landlock_restrict_self.
    version = call(444, None, ctypes.c_size_t(0), 1)
    rights = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    ruleset = call(444, struct.pack("=Q", rights), ctypes.c_size_t(8), 0)
    folders = {os.path.realpath(path) for path in (*sys.path, os.path.join(sys.base_prefix, "lib"), *_LIBRARIES)}
    allowed = {path: _READ | _READ_DIR for path in folders if os.path.isdir(path)}
    allowed |= {path: _READ for path in ("/etc/ld.so.cache",) if os.path.exists(path)} | {"/dev/null": _READ | _WRITE}
    for path, access in allowed.items():
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call(445, ruleset, 1, struct.pack("=Qi", access, fd), 0)
        os.close(fd)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no new privileges")
    call(446, ruleset, 0)
    os.close(ruleset)


if __name__ == "__main__":
    main()
