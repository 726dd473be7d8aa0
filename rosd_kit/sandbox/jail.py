"""The program of the sandbox: locks itself in, then runs one program that nobody has read.

jail.py RESULT_FD LENGTH: the first LENGTH bytes of the standard input are the job as JSON, the rest is the program's own input.
Only the standard library. After the lock nothing can be undone: the process may read Python's own files and nothing else, may
write to its pipes only, and can neither start processes nor reach others.
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
    """Read the job, lock up, run it, and write what it gave."""
    result, length = int(sys.argv[1]), int(sys.argv[2])
    job = json.loads(_read(length))
    try:
        _limit(job)
        _confine_files()
        seccomp.install()
    except Exception as error:
        os.write(result, f"X{type(error).__name__}: {error}".encode())
        os._exit(3)
    os.write(result, b"R")
    sys.argv = ["program.py"]
    told = _work(job)
    sys.stdout.flush()
    while told:
        told = told[os.write(result, told) :]


def _work(job: dict[str, Any]) -> bytes:
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
    parts = []
    while length:
        parts.append(os.read(0, length))
        if not parts[-1]:
            break
        length -= len(parts[-1])
    return b"".join(parts)


def _limit(job: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the parent
    seconds, memory = int(job["seconds"]) + 1, job["memory_mib"] << 20
    wanted = {"CPU": seconds, "AS": memory, "FSIZE": 0, "CORE": 0, "NOFILE": 64, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, value in wanted.items():
        resource.setrlimit(
            getattr(resource, f"RLIMIT_{name}", 12), (value, value)
        )  # 12 is MSGQUEUE, which Python does not name


def _confine_files() -> None:
    """Leave no way to files but to read Python's own and the system's libraries (Landlock)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: Any) -> int:
        value: int = libc.syscall(number, *arguments)
        if value < 0:
            raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
        return value

    version = call(444, None, ctypes.c_size_t(0), 1)
    rights = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    rules = call(444, struct.pack("=Q", rights), ctypes.c_size_t(8), 0)
    folders = {os.path.realpath(path) for path in (*sys.path, os.path.join(sys.base_prefix, "lib"), *_LIBRARIES)}
    allowed = {path: _READ | _READ_DIR for path in folders if os.path.isdir(path)}
    allowed |= {path: _READ for path in ("/etc/ld.so.cache",) if os.path.exists(path)} | {"/dev/null": _READ | _WRITE}
    for path, access in allowed.items():
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call(445, rules, 1, struct.pack("=Qi", access, opened), 0)
        os.close(opened)
    if libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no new privileges")
    call(446, rules, 0)
    os.close(rules)


if __name__ == "__main__":
    main()
