"""Times the phases of a `rosd` step on the embedded model, and compares them with the machine's matrix product rate.

    python benchmarks/phases.py [--steps 20]      # writes results/phases-cpu.jsonl
    python benchmarks/phases.py --device cuda     # the same on a GPU, in bfloat16; --model PATH for another model

The floor of a phase is its floating-point operations divided by the machine's rate, which is measured on a large matrix
product in the same process. Per token: 2P for decoding, prompts and the teacher's forward pass, 6P for the student's forward
and backward passes, where P counts the parameters of the backbone's matrices; 2VH for the head, once per decoded token, once
for the teacher and three times for the student on weighted tokens. Attention is not counted, and every sequence is counted in
full: a phase that runs common prefixes once may take less than its floor. On a GPU, a phase is the time until its work is
queued (`training/timer.py`); only the whole step is exact there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import clock, machine, wall_clock

from rosd_kit.display import make_display
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

RESULTS = Path(__file__).parent / "results"
PHASES = ("generate", "reflect", "train/teacher", "train/student", "train/head", "train/backward", "sync")


def matmul_rate(device: str, *, now: Callable[[str], float] = clock) -> float:
    """Return the floating-point operations per second of a large matrix product: the best of at least five within a second.

    In bfloat16 on a GPU and in float32 on a CPU. `now` is the clock that timed what the rate is compared with. On a busy
    machine even the best product is slower than the machine can be, and what is compared may take less than its floor.
    """
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    a @ b
    rates: list[float] = []
    end = time.monotonic() + 1.0
    while len(rates) < 5 or time.monotonic() < end:
        start = now(device)
        a @ b
        rates.append(2 * size**3 / (now(device) - start))
    return max(rates)


def matrix_parameters(model: Any) -> tuple[int, int]:
    """Return the numbers of parameters in the backbone's matrices and in the head."""
    head = model.get_output_embeddings().weight
    backbone = sum(p.numel() for p in model.get_decoder().parameters() if p.dim() == 2 and p.shape != head.shape)
    return backbone, head.numel()


def floor_flops(metrics: dict[str, float], backbone: int, head: int) -> dict[str, float]:
    """Return the floating-point operations of each phase of a step, from its metrics."""
    weighted, trained = metrics["train/weighted_tokens"], metrics["tokens/train"]
    return {
        "generate": 2 * (backbone + head) * metrics["tokens/generate"],
        "reflect": 2 * (backbone + head) * metrics.get("tokens/reflect", 0.0),
        "train/teacher": 2 * backbone * trained,
        "train/student": 2 * backbone * trained,
        "train/head": (3 + 1) * 2 * head * weighted,
        "train/backward": 4 * backbone * trained,
        "sync": 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="micro", help="model.path of the recipe")
    arguments = parser.parse_args()
    manager = PluginManager(selection="builtin")
    changes = [f"steps={arguments.steps}", "evaluation.problems=0", "samples.every=0", "checkpoint.every=0"]
    changes += [f"model.device={arguments.device}", f"model.path={arguments.model}"]
    changes += ["model.dtype=bfloat16"] if arguments.device == "cuda" else []
    recipe = load_recipe("rosd", changes, registry=manager.registry)
    backbone, head = matrix_parameters(Student.load(recipe.model, keep_initial=False).model)
    rate = matmul_rate(arguments.device, now=wall_clock)
    with tempfile.TemporaryDirectory() as out:
        run_recipe(recipe, plugins=manager, out=Path(out), name="run", resume=None, display=make_display(quiet=True))
        lines = (Path(out) / "run/metrics.jsonl").read_text().splitlines()
    steps = [step for step in map(json.loads, lines) if step.get("train/weighted_tokens")]
    seconds = {phase: statistics.median(step.get(f"time/{phase}", 0.0) for step in steps) for phase in PHASES}
    flops = [floor_flops(step, backbone, head) for step in steps]
    floors = {phase: statistics.median(step[phase] for step in flops) / rate for phase in PHASES}
    step_seconds = statistics.median(step["time/step"] for step in steps)
    row = {
        "machine": machine(arguments.device),
        "steps": len(steps),
        "gflops": rate / 1e9,
        "seconds": {**seconds, "step": step_seconds},
        "floor": {**floors, "step": sum(floors.values())},
    }
    with (RESULTS / f"phases-{arguments.device}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
