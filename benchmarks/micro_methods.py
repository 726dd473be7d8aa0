"""Trains every method on the embedded laboratory with equal numbers of rollouts, over learning rates and seeds.

    python benchmarks/micro_methods.py run            # resumes if it was stopped; two runs at a time, one thread each
    python benchmarks/micro_methods.py report         # updates the tables in docs/results-micro.md

Each run is a separate `rosd-kit run` process. Its results are one line in `benchmarks/results/micro_methods.jsonl`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import micro_report

from rosd_kit.model.micro.model import base_path

ROOT = Path(__file__).parent.parent
STORE = ROOT / "benchmarks/results/micro_methods.jsonl"
PAGE = ROOT / "docs/results-micro.md"
#: The tables are between these two lines of the page; the text around them is written by hand.
BEGIN, END = "<!-- tables: python benchmarks/micro_methods.py report -->", "<!-- end of tables -->"
METHODS = ("rosd", "rosd_v2", "sdpo", "opsd", "op2sd", "grpo", "rft")
RATES = (1e-4, 3e-4, 1e-3)
#: The same problems and number of rollouts per step for all, also for recipes with one rollout per problem.
EQUAL = ("problems_per_step=16", "group_size=8", "samples.every=0", "checkpoint.every=0")


@dataclass(frozen=True)
class Job:
    """One run. A line of the store belongs to it if all fields and the base model are equal."""

    method: str
    lr: float
    seed: int
    steps: int

    @property
    def key(self) -> tuple[object, ...]:
        return (self.method, self.lr, self.seed, self.steps, base_id())


def base_id() -> str:
    """Return the first digits of the base model's SHA-256."""
    return hashlib.sha256((base_path() / "model.safetensors").read_bytes()).hexdigest()[:12]


def stored() -> list[dict[str, Any]]:
    """Return the lines of the store that were measured with the current base model."""
    lines = STORE.read_text().splitlines() if STORE.exists() else []
    return [row for row in map(json.loads, lines) if row["base"] == base_id()]


def measure(job: Job) -> dict[str, Any]:
    """Run one job and return its line."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "rosd_kit", "run", str(ROOT / f"recipes/{job.method}.yaml"), *EQUAL]
        command += [
            f"optimizer.lr={job.lr}",
            f"seed={job.seed}",
            f"steps={job.steps}",
            "--quiet",
            "--out",
            out,
            "--name",
            "run",
        ]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        folder = Path(out) / "run"
        metrics = _lines(folder / "metrics.jsonl")
        evaluations = _lines(folder / "evaluations.jsonl")
    if not evaluations:
        raise RuntimeError(f"{job} left no evaluation:\n{done.stdout}\n{done.stderr}")
    return {
        "method": job.method,
        "lr": job.lr,
        "seed": job.seed,
        "steps": job.steps,
        "base": base_id(),
        "finished": done.returncode == 0,
        "said": [line for line in done.stderr.splitlines() if line.startswith(("warning", "error"))],
        "before": _scores(evaluations[0]),
        "after": _scores(evaluations[-1]),
        "success": [round(m["rollout/success"], 4) for m in metrics],
        "length": [round(m["rollout/length"], 2) for m in metrics],
        "weighted": [m.get("train/weighted_tokens", 0.0) for m in metrics],
        "seconds": [round(m["time/step"], 3) for m in metrics],
        "oracle": {
            name: sum(m.get(name, 0.0) for m in metrics)
            for name in sorted({n for m in metrics for n in m})
            if name.startswith("oracle/")
        },
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _scores(evaluation: dict[str, Any]) -> dict[str, list[float]]:
    """Return each suite's shares of correct samples by problem; the problems are the same in every run."""
    return {r["suite"]: [round(score, 4) for score in r["scores"].values()] for r in evaluation["results"]}


def run(jobs: Iterable[Job], at_once: int) -> None:
    """Run the jobs that are not in the store yet, seed by seed, and append each result as soon as it is ready."""
    known = {(r["method"], r["lr"], r["seed"], r["steps"], r["base"]) for r in stored()}
    remaining = [job for job in jobs if job.key not in known]
    STORE.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(measure, job): job for job in remaining}
        for count, future in enumerate(as_completed(futures), start=1):
            job, row = futures[future], future.result()
            with STORE.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{count}/{len(remaining)} {job.method} lr {job.lr:g} seed {job.seed}: success {row['success'][-1]:.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="METHOD")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, metavar="LR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=2, help="concurrent runs, one thread each")
    args = parser.parse_args()
    if args.what == "run":
        run(
            (Job(m, lr, seed, args.steps) for seed in range(args.seeds) for lr in args.rates for m in args.methods),
            args.at_once,
        )
    rows = [row for row in stored() if row["steps"] == args.steps]
    if rows:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{micro_report.tables(rows)}\n\n{END}{rest.partition(END)[2]}")
        print(f"wrote the tables of {PAGE.relative_to(ROOT)} from {len(rows)} runs")


if __name__ == "__main__":
    main()
