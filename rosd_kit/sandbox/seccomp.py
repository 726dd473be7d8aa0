"""The system calls that a program in the sandbox may make, as a filter for the kernel; everything else fails with EPERM.

Only the standard library. Numbers are those of Linux for x86_64 and aarch64. Allowed is what an interpreter needs to compute,
to read files and to use pipes: no sockets, no new processes, no signals to others, no limits, no owners or modes of files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# read, write, open, close, stat and their kin; mmap, brk and their kin; handling of signals; select, poll, epoll, eventfd; dup;
# pipe; getcwd, getdents64, readlink; clocks, timers of one's own, sleep; who am I; uname, sysinfo, getrlimit, getrusage; futex;
# rseq; sched_yield, sched_getaffinity; getrandom; exit; umask.
_X86_64 = (
    "0-15 17-25 28 32-33 35-39 60 63 79 89 95-100 102 104 107-108 110 118 120 131 158 186 201-202 204 217-219 "
    "228-233 257 262 267 269-271 273-274 281 290-293 309 318 324 332 334 436-437 439 "
)
_AARCH64 = (
    "17 19-24 48 56-57 59 61-68 72-73 78-80 93-94 96 98-103 113-115 123-124 128 132 134-135 139 148 150 153 160 163 "
    "165-166 168-169 172-179 214-216 222 226 233 278 283 291 293 436-437 439 "
)
#: Audit's name of the architecture; numbers of the calls that are allowed with some arguments only.
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOME = {
    "x86_64": {"clone": 56, "clone3": 435, "tgkill": 234, "fcntl": 72, "ioctl": 16, "prctl": 157, "prlimit64": 302},
    "aarch64": {"clone": 220, "clone3": 435, "tgkill": 131, "fcntl": 25, "ioctl": 29, "prctl": 167, "prlimit64": 261},
}
_CLONE_THREAD = 0x10000
_FCNTL = (0, 1, 2, 3, 4, 1030)  # duplicate, get and set flags; not the owner who gets signals
_IOCTL = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # is it a terminal, its size, non-blocking, close on exec
_PRCTL = (15, 16, 0x53564D41)  # names of threads and of memory

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _DENY, _ABSENT, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

Step = tuple[int, int, int, int]


def _numbers(ranges: str) -> list[int]:
    pairs = (one.partition("-") for one in ranges.split())
    return [number for low, _, high in pairs for number in range(int(low), int(high or low) + 1)]


#: Numbers of the calls that are allowed whatever their arguments.
ALLOWED = {"x86_64": _numbers(_X86_64), "aarch64": _numbers(_AARCH64)}


def filter_for(machine: str, pid: int) -> list[Step]:
    """Return the filter as steps (code, jump if true, jump if false, constant) for the process `pid`."""
    some = _SOME[machine]
    steps: list[Step] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER)]
    for number in ALLOWED[machine]:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    steps += [
        (_EQUAL, 0, 1, some["clone3"]),
        (_RETURN, 0, 0, _ABSENT),
    ]  # the C library then calls clone, whose flags can be seen
    steps += _if(some["clone"], [_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)])
    steps += _if(some["tgkill"], _one_of(0, (pid,)))
    steps += _if(some["fcntl"], _one_of(1, _FCNTL))
    steps += _if(some["ioctl"], _one_of(1, _IOCTL))
    steps += _if(some["prctl"], _one_of(0, _PRCTL))
    null = [_argument(2), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, _ARGUMENTS + 2 * 8 + 4), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    steps += _if(some["prlimit64"], [_argument(0), (_EQUAL, 0, len(null), 0), *null])  # only to ask for one's own
    return [*steps, (_RETURN, 0, 0, _DENY)]


def install() -> None:
    """Put this process and all threads that it starts under the filter, for good. Raises `OSError` where that is impossible."""
    machine = platform.machine()
    if machine not in ALLOWED:
        raise OSError(f"no list of system calls for {machine}")
    steps = filter_for(machine, os.getpid())
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(steps), ctypes.addressof(buffer := ctypes.create_string_buffer(code)))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):  # no new privileges; then the filter
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}: {os.strerror(ctypes.get_errno())}")
    del buffer


def _argument(place: int) -> Step:
    return (_LOAD, 0, 0, _ARGUMENTS + place * 8)


def _one_of(place: int, values: tuple[int, ...]) -> list[Step]:
    steps = [_argument(place)]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return steps


def _if(number: int, then: list[Step]) -> list[Step]:
    """Return the steps for one call; those that do not allow it end in a refusal."""
    then = [*then, (_RETURN, 0, 0, _DENY)]
    return [(_EQUAL, 0, len(then), number), *then]
