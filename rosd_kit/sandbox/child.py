"""The program of a worker process: reads one JSON value per line, calls the function, answers with one JSON line.

Usage: child.py MODULE:FUNCTION MEMORY_MIB DEADLINE. Uses only the standard library until it imports the function's module.
The function's output is discarded. The process ends with its parent: a thread watches the parent, and if a call blocks all
threads, the kernel ends the process when it exceeds its CPU time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time

#: CPU seconds allowed after the deadline; by then a living parent has killed this process.
_GRACE = 3.0


def main(target: str, memory_mib: int, deadline: float) -> None:
    """Answer calls until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    if memory_mib:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    seconds = (deadline + _GRACE) * (os.cpu_count() or 1)  # the timer counts the CPU time of all threads
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # an unhandled SIGPROF ends the process
        try:
            answer = {"value": function(json.loads(line))}
        except MemoryError:
            answer = {"error": f"MemoryError: more than {memory_mib} MiB"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(answer), file=answers, flush=True)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
