"""What the benchmarks share: times side by side in one process, peak memory in fresh ones, and what machine it was.

Only ratios of one run mean anything: programs are timed in turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import gc
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

Step = Callable[[], Any]


@dataclass(frozen=True)
class Times:
    """Seconds of one program: the median of its runs, and the least and greatest."""

    median: float
    least: float
    greatest: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def take_turns(steps: Mapping[str, Step], *, repeats: int, device: str = "cpu") -> dict[str, Times]:
    """Time every step `repeats` times in turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            gc.collect()
            began = clock(device)
            step()
            if turn:
                seconds[name].append(clock(device) - began)
    return {name: Times(statistics.median(found), min(found), max(found)) for name, found in seconds.items()}


def clock(device: str) -> float:
    """Return the time: on a CPU the process's own, which leaves out what others on the machine take."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class PeakMemory:
    """The most memory, in bytes, that a `with` block held beyond what there was before it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
            self.before = _status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else _status("VmHWM")
        self.bytes = peak - self.before


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def in_fresh_process(script: Path, task: Mapping[str, Any], *, limit_gib: float | None = None) -> dict[str, Any]:
    """Run `script --task JSON` and return the JSON of its last line; `{"failed": why}` where it ended otherwise.

    `limit_gib` bounds the child's memory, so that a program that needs more fails instead of driving out others.
    """

    def confine() -> None:
        if limit_gib is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * 2**30),) * 2)

    command = [sys.executable, str(script), "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=confine)
    if done.returncode == 0 and done.stdout.strip():
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    short = any(word in done.stderr for word in ("can't allocate memory", "OutOfMemory", "MemoryError", "DefaultCPUAllocator"))
    room = f"does not fit in {limit_gib:g} GiB" if limit_gib is not None else "out of memory"
    return {"failed": room if short or done.returncode < 0 else said[:200]}


def machine(device: str = "cpu") -> str:
    """Return in one line what the figures were measured on."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    named = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{named[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
