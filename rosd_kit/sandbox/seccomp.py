"""A seccomp filter of the system calls that a program in the sandbox may make; all others fail with EPERM.

It allows what an interpreter needs to compute, read files and use pipes, but no sockets, new processes, signals to other
processes, changes of resource limits, or changes of files' owners and modes. Numbers are those of Linux on x86_64 and aarch64.
Uses only the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# read, write, open, close, stat and variants; mmap, brk and variants; signal handling; select, poll, epoll, eventfd; dup; pipe;
# getcwd, getdents64, readlink; clocks, timers, sleep; process, user and group ids; uname, sysinfo, getrlimit, getrusage; futex;
# rseq; sched_yield, sched_getaffinity; getrandom; exit; umask.
_X86_64 = (
    "0-15 17-25 28 32-33 35-39 60 63 79 89 95-100 102 104 107-108 110 118 120 131 158 186 201-202 204 217-219 "
    "228-233 257 262 267 269-271 273-274 281 290-293 309 318 324 332 334 436-437 439 "
)
_AARCH64 = (
    "17 19-24 48 56-57 59 61-68 72-73 78-80 93-94 96 98-103 113-115 123-124 128 132 134-135 139 148 150 153 160 163 "
    "165-166 168-169 172-179 214-216 222 226 233 278 283 291 293 436-437 439 "
)
#: The architecture numbers of the kernel's audit interface.
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Numbers of the calls that are allowed only with some arguments.
_RESTRICTED = {
    "x86_64": {"clone": 56, "clone3": 435, "tgkill": 234, "fcntl": 72, "ioctl": 16, "prctl": 157, "prlimit64": 302},
    "aarch64": {"clone": 220, "clone3": 435, "tgkill": 131, "fcntl": 25, "ioctl": 29, "prctl": 167, "prlimit64": 261},
}
_CLONE_THREAD = 0x10000
_FCNTL = (0, 1, 2, 3, 4, 1030)  # duplicate, get and set flags; not F_SETOWN, which directs signals
_IOCTL = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # terminal attributes and size, non-blocking, close on exec
_PRCTL = (15, 16, 0x53564D41)  # names of threads and memory areas

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _DENY, _ABSENT, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

Step = tuple[int, int, int, int]


def _numbers(ranges: str) -> list[int]:
    """Return the numbers of ranges like `0-2 5`."""
    pairs = (item.partition("-") for item in ranges.split())
    return [number for low, _, high in pairs for number in range(int(low), int(high or low) + 1)]


#: Numbers of the calls that are allowed with any arguments.
ALLOWED = {"x86_64": _numbers(_X86_64), "aarch64": _numbers(_AARCH64)}


def filter_for(machine: str, pid: int) -> list[Step]:
    """Return the filter as steps (code, jump if true, jump if false, constant) for the process `pid`."""
    restricted = _RESTRICTED[machine]
    steps: list[Step] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER)]
    for number in ALLOWED[machine]:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    # clone3 looks absent, so that the C library calls clone, whose flags the filter can see.
    steps += [(_EQUAL, 0, 1, restricted["clone3"]), (_RETURN, 0, 0, _ABSENT)]
    steps += _if(restricted["clone"], [_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)])
    steps += _if(restricted["tgkill"], _one_of(0, (pid,)))
    steps += _if(restricted["fcntl"], _one_of(1, _FCNTL))
    steps += _if(restricted["ioctl"], _one_of(1, _IOCTL))
    steps += _if(restricted["prctl"], _one_of(0, _PRCTL))
    null = [_argument(2), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, _ARGUMENTS + 2 * 8 + 4), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    steps += _if(restricted["prlimit64"], [_argument(0), (_EQUAL, 0, len(null), 0), *null])  # only to read the own limits
    return [*steps, (_RETURN, 0, 0, _DENY)]


def install() -> None:
    """Install the filter permanently for this process and all threads that it starts. Raises `OSError` if that fails."""
    machine = platform.machine()
    if machine not in ALLOWED:
        raise OSError(f"no list of system calls for {machine}")
    steps = filter_for(machine, os.getpid())
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(steps), ctypes.addressof(buffer := ctypes.create_string_buffer(code)))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}: {os.strerror(ctypes.get_errno())}")
    del buffer


def _argument(index: int) -> Step:
    """Return the step that loads the low half of an argument."""
    return (_LOAD, 0, 0, _ARGUMENTS + index * 8)


def _one_of(index: int, values: tuple[int, ...]) -> list[Step]:
    """Return the steps that allow a call whose argument has one of these values."""
    steps = [_argument(index)]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return steps


def _if(number: int, then: list[Step]) -> list[Step]:
    """Return the steps for one call, which is refused unless `then` allows it."""
    then = [*then, (_RETURN, 0, 0, _DENY)]
    return [(_EQUAL, 0, len(then), number), *then]
