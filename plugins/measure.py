"""Runs the packages' recipes in the embedded laboratory with equal rollouts, and prints the table of plugins/README.md.

    python plugins/measure.py [NAME ...] --out runs/plugins

Each recipe runs with `rosd-kit run` in a separate process, unless its run folder exists. `grpo` and `rosd` are built-in
recipes. `external-reflector` uses the endpoint in ROSD_KIT_REFLECTOR_URL, `vllm` the interpreter in ROSD_KIT_VLLM_PYTHON;
each is skipped if that is not set.
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
#: Environment variables without which a package's recipe cannot run.
NEEDS = {"external-reflector": "ROSD_KIT_REFLECTOR_URL", "vllm": "ROSD_KIT_VLLM_PYTHON"}
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
    """Return the folder of a finished run; run the recipe if there is none."""
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
    """Return one line of the table: the differences in points, with 95 % intervals over problems."""
    run = RunFolder.watch(folder)
    before, after = (
        [SuiteResult.from_json(result) for result in record["results"]] for record in run.read("evaluations.jsonl")
    )
    in_domain = _difference([r for r in before if r.in_domain], [r for r in after if r.in_domain])
    out_of_domain = _difference([r for r in before if not r.in_domain], [r for r in after if not r.in_domain])
    seconds = sum(record["time/step"] for record in run.read("metrics.jsonl"))
    return f"| {name} | {_points(in_domain)} | {_points(out_of_domain)} | {seconds / 30:.1f} |"


def _difference(before: list[SuiteResult], after: list[SuiteResult]) -> Interval:
    first, second = (
        {f"{result.suite} {problem}": score for result in results for problem, score in result.scores.items()}
        for results in (before, after)
    )
    return paired_difference(first, second)


def _points(difference: Interval) -> str:
    return f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f} .. {100 * difference.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Packages or built-in recipes (default: all).")
    parser.add_argument("--out", type=Path, default=Path("runs/plugins"))
    arguments = parser.parse_args()
    available = [name for name in PACKAGES if name not in NEEDS or os.environ.get(NEEDS[name])]
    print("| recipe | in domain | out of domain | s per step |\n|---|---|---|---|")
    for name in arguments.names or (*SHIPPED, *available):
        print(row(name, run(name, arguments.out)), flush=True)


if __name__ == "__main__":
    main()
