"""Measures what the boundary around components and observers costs a step of `rosd` on the embedded model.

    python benchmarks/boundary.py [--steps 8] [--turns 5]     # writes results/boundary-cpu.jsonl

Three programs take turns, with the same rollouts: `none` calls components directly, `own` guards them as the kit's own, and
`plugins` guards all of them, and an observer, as a plugin's: the surroundings are looked at before and after every call.
Seconds are those of the processor. Each step is compared with the same step of `none` in the same turn, and the ratio is the
median over these pairs; its interval holds 95 % of the medians of resampled pairs.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from harness import machine

from rosd_kit.display import Display
from rosd_kit.faults import boundary as boundaries
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import loop

RESULTS = Path(__file__).parent / "results/boundary-cpu.jsonl"
PROGRAMS = ("none", "own", "plugins")
OBSERVER = "import rosd_kit as rk\n\n\n@rk.hookimpl\ndef rosd_kit_step_end(run, step):\n    pass\n"
WARMUP_STEPS = 1


def guard_of(program: str) -> Callable[..., None]:
    """Return what stands for `Boundary.guard` in a program."""
    guard = boundaries.Boundary.guard

    def guarded(self: boundaries.Boundary, component: object, origin: str, *, is_plugin: bool) -> None:
        if program != "none":
            guard(self, component, origin, is_plugin=program == "plugins")  # type: ignore[arg-type]

    return guarded


def run_steps(folder: Path, name: str, program: str, steps: int) -> tuple[list[float], int]:
    """Run the recipe; return the processor's seconds of its steps, without the warm-up, and the guarded calls of a step."""
    observer = folder / "observer.py"
    observer.write_text(OBSERVER)
    manager = PluginManager(files=[observer] if program == "plugins" else [], selection="builtin")
    changes = [f"steps={steps + WARMUP_STEPS}", "evaluation.problems=0", "checkpoint.every=0", "model.device=cpu"]
    recipe = load_recipe("rosd", changes, registry=manager.registry)
    train_step, run, seconds, calls = loop.train_step, boundaries._Guard.run, [], []

    def timed(of: loop.Run) -> None:
        began = time.process_time()
        train_step(of)
        seconds.append(time.process_time() - began)

    @functools.wraps(run)
    def counted(guard: boundaries._Guard, call: Callable[[], object]) -> object:
        calls.append(guard.name)
        return run(guard, call)

    with mock.patch.object(boundaries.Boundary, "guard", guard_of(program)), mock.patch.object(loop, "train_step", timed):
        if name == "calls":
            with mock.patch.object(boundaries._Guard, "run", counted):
                loop.run_recipe(recipe, plugins=manager, out=folder, name=name, resume=None, display=Display())
        else:
            loop.run_recipe(recipe, plugins=manager, out=folder, name=name, resume=None, display=Display())
    return seconds[WARMUP_STEPS:], len(calls) // (steps + WARMUP_STEPS)


def ratio(program: list[float], none: list[float]) -> dict[str, float]:
    """Return the median of the paired ratios, and its interval."""
    pairs = np.array(program) / np.array(none)
    draws = np.random.default_rng(0).choice(pairs, (2000, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return {"median": float(np.median(pairs)), "low": float(low), "high": float(high), "pairs": len(pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _, calls = run_steps(folder, "calls", "plugins", arguments.steps)
        for turn in range(arguments.turns):
            order = PROGRAMS if turn % 2 == 0 else PROGRAMS[::-1]  # so that a drift of the machine favours nobody
            for program in order:
                seconds[program] += run_steps(folder, f"{program}-{turn}", program, arguments.steps)[0]
    row = {
        "machine": machine(),
        "seconds": {program: statistics.median(each) for program, each in seconds.items()},
        "calls": calls,
        "ratios": {program: ratio(seconds[program], seconds["none"]) for program in PROGRAMS[1:]},
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
