"""Times the commands that only list or show: `python benchmarks/startup.py` prints the median of several starts of each.

Measure with a warm disk and idle cores; the first start of each command is not counted. On busy cores, compare the seconds of
the processor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

#: Command line to the seconds that it may take.
COMMANDS = {"--help": 0.3, "components": 0.6, "show rosd": 1.0, "schema": 1.0, "plugins": 1.0}


def seconds(words: list[str]) -> tuple[float, float]:
    """Return how long a start takes, and the processor's share of it."""
    began, used = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, "-m", "rosd_kit", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, processor_seconds() - used


def processor_seconds() -> float:
    """Return the processor's seconds of all ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7, help="Counted starts of each command.")
    starts = parser.parse_args().starts
    for command, limit in COMMANDS.items():
        words = command.split()
        seconds(words)
        taken, used = zip(*(seconds(words) for _ in range(starts)), strict=True)
        spread = f"{min(taken):.2f} .. {max(taken):.2f}"
        processor = f"{statistics.median(used):.2f} s of the processor"
        print(f"rosd-kit {command:12} {statistics.median(taken):.2f} s ({spread}), {processor}, goal {limit} s")


if __name__ == "__main__":
    main()
