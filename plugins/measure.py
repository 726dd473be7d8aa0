"""Runs the packages' recipes on the embedded laboratory under equal rollouts, and prints the table of plugins/README.md.

    python plugins/measure.py [NAME ...] --out runs/plugins

Each run is `rosd-kit run` in a process of its own; one that is there already is only read. `grpo` and `rosd` are the recipes
that come with rosd-kit. The reflections of `external-reflector` come from ROSD_KIT_REFLECTOR_URL; without it, it is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rosd_kit.evaluation.intervals import Interval, paired_difference
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.run.folder import RunFolder

HERE = Path(__file__).parent
SHIPPED = ("grpo", "rosd")
PACKAGES = tuple(sorted(path.parent.name.removeprefix("rosd-kit-") for path in HERE.glob("*/recipe.yaml")))
SETTINGS = (
    "steps=30",
    "seed=0",
    "problems_per_step=8",
    "group_size=8",
    "evaluation.every=0",
    "evaluation.problems=48",
    "evaluation.samples=4",
    "checkpoint.every=0",
    "samples.every=0",
)


def run(name: str, out: Path) -> Path:
    """Return the folder of a finished run, after running it where there is none."""
    folder = out / name
    if not (folder / "model").is_dir():
        recipe = name if name in SHIPPED else str(HERE / f"rosd-kit-{name}" / "recipe.yaml")
        settings = list(SETTINGS)
        if name == "external-reflector":
            settings.append(f"reflector.url={os.environ['ROSD_KIT_REFLECTOR_URL']}")
        command = [sys.executable, "-m", "rosd_kit", "run", recipe, *settings, "--out", str(out), "--name", name, "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def row(name: str, folder: Path) -> str:
    """Return one line of the table: after minus before, in points, with 95 % intervals over problems."""
    run = RunFolder.watch(folder)
    before, after = (
        [SuiteResult.from_json(result) for result in record["results"]] for record in run.read("evaluations.jsonl")
    )
    inside = _difference([r for r in before if r.in_domain], [r for r in after if r.in_domain])
    outside = _difference([r for r in before if not r.in_domain], [r for r in after if not r.in_domain])
    seconds = sum(record["time/step"] for record in run.read("metrics.jsonl"))
    return f"| {name} | {_shown(inside)} | {_shown(outside)} | {seconds / 30:.1f} |"


def _difference(before: list[SuiteResult], after: list[SuiteResult]) -> Interval:
    first, second = (
        {f"{result.suite} {problem}": score for result in results for problem, score in result.scores.items()}
        for results in (before, after)
    )
    return paired_difference(first, second)


def _shown(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} .. {100 * found.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Packages or shipped recipes; all without any.")
    parser.add_argument("--out", type=Path, default=Path("runs/plugins"))
    chosen = parser.parse_args()
    reachable = [name for name in PACKAGES if name != "external-reflector" or os.environ.get("ROSD_KIT_REFLECTOR_URL")]
    print("| recipe | in domain | out of domain | s a step |\n|---|---|---|---|")
    for name in chosen.names or (*SHIPPED, *reachable):
        print(row(name, run(name, chosen.out)), flush=True)


if __name__ == "__main__":
    main()
