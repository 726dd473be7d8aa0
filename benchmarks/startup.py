"""Times the commands that only list or show: `python benchmarks/startup.py` prints the median of several starts of each.

Measure with a warm disk and idle cores; the first start of each command is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

#: Command line to the seconds that it may take.
COMMANDS = {"--help": 0.3, "components": 0.6, "show rosd": 1.0, "schema": 1.0, "plugins": 1.0}


def seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "rosd_kit", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7, help="Counted starts of each command.")
    starts = parser.parse_args().starts
    for command, limit in COMMANDS.items():
        words = command.split()
        seconds(words)
        taken = [seconds(words) for _ in range(starts)]
        print(f"rosd-kit {command:12} {statistics.median(taken):.2f} s ({min(taken):.2f} .. {max(taken):.2f}), goal {limit} s")


if __name__ == "__main__":
    main()
