"""Shared by the benchmarks: timing in one process, peak memory in fresh processes, and a description of the machine.

Only ratios within one run are meaningful: programs are timed in turns, so that other load on the machine affects all of them.
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
    """Seconds that a program takes: the median, minimum and maximum over its runs."""

    median: float
    least: float
    greatest: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def take_turns(steps: Mapping[str, Step], *, repeats: int, device: str = "cpu") -> dict[str, Times]:
    """Time every step `repeats` times, in turns, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            gc.collect()
            start = clock(device)
            step()
            if turn:
                seconds[name].append(clock(device) - start)
    return {name: Times(statistics.median(runs), min(runs), max(runs)) for name, runs in seconds.items()}


def clock(device: str) -> float:
    """Return the time in seconds; on a CPU this process's CPU time, which excludes other load on the machine."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def wall_clock(device: str) -> float:
    """Return the time in seconds by the clock that the metrics of a run go by, when the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class PeakMemory:
    """Measures the peak memory, in bytes, that a `with` block used in addition to what was in use before."""

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
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
            self.before = _status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else _status("VmHWM")
        self.bytes = peak - self.before


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def in_fresh_process(script: Path, task: Mapping[str, Any], *, limit_gib: float | None = None) -> dict[str, Any]:
    """Run `script --task JSON` and return the JSON of its last output line, or `{"failed": reason}` if it failed.

    `limit_gib` limits the child's memory, so that a program that needs more fails instead of disturbing the machine.
    """

    def limit_memory() -> None:
        if limit_gib is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * 2**30),) * 2)

    command = [sys.executable, str(script), "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_memory)
    if done.returncode == 0 and done.stdout.strip():
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    last_line = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    signs = ("can't allocate memory", "OutOfMemory", "MemoryError", "DefaultCPUAllocator")
    out_of_memory = done.returncode < 0 or any(sign in done.stderr for sign in signs)
    reason = f"does not fit in {limit_gib:g} GiB" if limit_gib is not None else "out of memory"
    return {"failed": reason if out_of_memory else last_line[:200]}


def machine(device: str = "cpu") -> str:
    """Return one line that describes the machine."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{models[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
