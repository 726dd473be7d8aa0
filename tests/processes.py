"""The processes that a test has started."""

import os

import psutil


def processes_below(pid: int | None = None, *, naming: str) -> list[psutil.Process]:
    """Living descendants of a process (of this one by default) whose command line contains ``naming``.

    A process may end between being listed and being read: it is left out, as if it had ended before.
    """
    found = []
    for process in psutil.Process(pid or os.getpid()).children(recursive=True):
        try:
            if naming in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
