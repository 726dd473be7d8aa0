"""A long run with tiny steps, to see whether memory, open files or threads grow.

    python -m tests.faults.soak --steps 2000

Trains the embedded model with `rosd`, very short responses and a checkpoint every 50 steps. Every 10 steps, watcher.py records
the process's unique memory, open files and threads, and reads `metrics.jsonl` to its last line. Prints the slope of memory
(Theil-Sen, without the first tenth) and the other changes; exits with 1 if something grew.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from itertools import combinations
from pathlib import Path

import torch

from rosd_kit.display import Display
from rosd_kit.files import read_json_lines
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe
from tests.run.conftest import TINY

#: Largest growth of memory per step; files and threads must not grow.
MAX_BYTES_PER_STEP = 2048


def slope(rows: list[dict[str, float]], name: str) -> float:
    """Return the median slope per step over all pairs of rows."""
    return statistics.median((b[name] - a[name]) / (b["step"] - a["step"]) for a, b in combinations(rows, 2))


def soak(steps: int, folder: Path) -> list[dict[str, float]]:
    """Run this many steps; return the watcher's records."""
    plugins = PluginManager([Path(__file__).with_name("watcher.py")], selection="builtin")
    changes = [*TINY, f"steps={steps}", "checkpoint.every=50", "samples.every=10", "optimizer.lr=1e-6"]
    recipe = load_recipe("rosd", changes, registry=plugins.registry)
    run_recipe(recipe, plugins=plugins, out=folder, name="soak", resume=None, display=Display())
    return list(read_json_lines(folder / "soak/watched.jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = soak(steps, Path(folder))
    rows = rows[len(rows) // 10 :]
    third = max(1, len(rows) // 3)
    first, last = (statistics.median(row["seconds"] for row in third_rows) for third_rows in (rows[:third], rows[-third:]))
    growth = slope(rows, "bytes")
    files, threads = (
        max(row[name] for row in rows[-third:]) - max(row[name] for row in rows[:third]) for name in ("files", "threads")
    )
    print(
        f"{steps} steps: memory {rows[0]['bytes'] / 2**20:.0f} to {rows[-1]['bytes'] / 2**20:.0f} MiB "
        f"({growth:+.0f} bytes per step), open files {files:+.0f}, threads {threads:+.0f}, "
        f"seconds per step {first:.3f} in the first third and {last:.3f} in the last"
    )
    raise SystemExit(int(growth > MAX_BYTES_PER_STEP or files > 0 or threads > 0))


if __name__ == "__main__":
    main()
