"""The program of a worker: reads one JSON value a line, calls the function, answers with one JSON line.

child.py MODULE:FUNCTION MEMORY_MIB DEADLINE; only the standard library until the function's module is imported. What the
function prints goes nowhere. The process ends with its parent; should a call let no other thread run, which would see that the
parent is gone, the system ends it when it has used the processor for longer than its deadline allows.
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

#: Seconds beyond the deadline, at which a parent that is there kills.
_GRACE = 3.0


def main(target: str, memory_mib: int, deadline: float) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    if memory_mib:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    seconds = (deadline + _GRACE) * (os.cpu_count() or 1)  # of all threads together
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process that does not handle it
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
