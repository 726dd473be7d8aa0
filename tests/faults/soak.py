"""A long run in fast-forward: does anything grow?

    python -m tests.faults.soak --steps 2000

Trains the embedded model by `rosd` with very short responses, a checkpoint every 50 steps, and every 10 steps looks
(watcher.py) at the memory that is this process's own, its open files, its threads, and whether `metrics.jsonl` can be read to
its last line. Prints the slope of memory (Theil and Sen, the first tenth left out) and what else changed; exits with 1 when
something grew.
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

#: Memory may grow by so much a step; files and threads may not.
MOST_BYTES_A_STEP = 2048


def slope(rows: list[dict[str, float]], name: str) -> float:
    """Return the median of the slopes of all pairs, a step."""
    return statistics.median((b[name] - a[name]) / (b["step"] - a["step"]) for a, b in combinations(rows, 2))


def soak(steps: int, folder: Path) -> list[dict[str, float]]:
    """Run so many steps; return what was seen."""
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
    first, last = (statistics.median(row["seconds"] for row in part) for part in (rows[:third], rows[-third:]))
    grown = slope(rows, "bytes")
    files, threads = (
        max(row[name] for row in rows[-third:]) - max(row[name] for row in rows[:third]) for name in ("files", "threads")
    )
    print(
        f"{steps} steps: memory {rows[0]['bytes'] / 2**20:.0f} to {rows[-1]['bytes'] / 2**20:.0f} MiB "
        f"({grown:+.0f} bytes a step), open files {files:+.0f}, threads {threads:+.0f}, "
        f"seconds a step {first:.3f} in the first third and {last:.3f} in the last"
    )
    raise SystemExit(int(grown > MOST_BYTES_A_STEP or files > 0 or threads > 0))


if __name__ == "__main__":
    main()
