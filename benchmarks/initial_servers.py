"""Times a step's sampling and reflecting with SGLang, with weights swapped for the reflector and with a server that keeps them.

    python benchmarks/initial_servers.py --python .sglang/bin/python       # writes results/initial-servers-cpu.jsonl

A turn is the rollouts and reflections of a step of `rosd`, and the transfer of the weights for the next step, with real servers
on the CPU. Both engines take turns in one process: `swapped` has one server, `kept` also one with the initial weights.
Transfers are counted in the servers' logs. A reflection is early if it arrives before the step's last rollout. A server answers
a quarter of a step's rollouts at once, so that groups are complete while others are still being sampled, as with long
responses on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from harness import Step, machine, table

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.model.student import Student
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, build_components, load_recipe
from rosd_kit.run.state import train_problems
from rosd_kit.serving.options import ProbeSettings
from rosd_kit.sglang.options import Launch
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

RESULTS = Path(__file__).parent / "results/initial-servers-cpu.jsonl"
ENGINES = {"swapped": 0, "kept": 1}
AT_ONCE = 4  # the part of a step's rollouts that a server answers at once


@dataclass
class RecordingEngine:
    """Passes requests on, and notes when rollouts and reflections arrive."""

    engine: SGLangEngine
    arrivals: dict[PolicyWeights, list[float]] = field(default_factory=lambda: {"live": [], "initial": []})
    streams: bool = True

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        completions = dict(self.stream(requests, weights=weights))
        return [completions[place] for place in range(len(requests))]

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        for one in self.engine.stream(requests, weights=weights):
            self.arrivals[weights].append(time.perf_counter())
            yield one

    def early(self) -> float:
        """Return the share of the reflections since the last call that arrived before the last rollout did."""
        rollouts, reflections = self.arrivals["live"], self.arrivals["initial"]
        share = sum(at < max(rollouts) for at in reflections) / max(1, len(reflections))
        rollouts.clear()
        reflections.clear()
        return share


def measure(python: str, turns: int) -> list[dict[str, object]]:
    """Return one record per engine."""
    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("rosd", ["model.device=cpu"], registry=registry)
    components = build_components(recipe, registry)
    student = Student.load(recipe.model, keep_initial=True)
    engines: dict[str, RecordingEngine] = {}
    steps: dict[str, Step] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    early: dict[str, list[float]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for which, servers in ENGINES.items():
            at_once = recipe.problems_per_step * recipe.group_size // AT_ONCE
            launch = Launch(
                python=python,
                initial_servers=servers,
                env={"OMP_NUM_THREADS": "1"},
                args={"max_running_requests": at_once},
            )
            engine = SGLangEngine(SGLangEngine.Config(launch=launch, check=ProbeSettings(every=0), timeout=1800))
            engine.start(student, Site(Path(folder) / which))
            stack.callback(engine.close)
            engines[which] = RecordingEngine(engine)
            steps[which] = _step(recipe, Pipeline.of(recipe, components, student, engine=engines[which]), engine)
        before = {which: _transfers(Path(folder) / which) for which in ENGINES}
        for turn in range(turns + 1):
            for which, step in steps.items():
                start = time.perf_counter()
                step()
                share = engines[which].early()
                if turn:
                    seconds[which].append(time.perf_counter() - start)
                    early[which].append(share)
        transfers = {which: _transfers(Path(folder) / which) - before[which] for which in ENGINES}
    return [
        {
            "engine": which,
            "median": round(median(seconds[which]), 4),
            "least": round(min(seconds[which]), 4),
            "greatest": round(max(seconds[which]), 4),
            "ratio": round(median(a / b for a, b in zip(seconds["swapped"], seconds[which], strict=True)), 3),
            "transfers": transfers[which] / (turns + 1),
            "early": round(median(early[which]), 3),
            "turns": turns,
            "machine": machine(),
        }
        for which in ENGINES
    ]


def _step(recipe: Recipe, pipeline: Pipeline, engine: SGLangEngine) -> Step:
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        pipeline.step(train_problems(recipe, pipeline.components, number), number)
        engine.sync(engine.student, number + 1)

    return step


def _transfers(folder: Path) -> int:
    """Return how often a server of these logs was sent weights."""
    return sum(len(re.findall(r"POST /update_weights_from_disk", log.read_text())) for log in folder.glob("*.log"))


def records_table(records: Sequence[dict[str, object]]) -> str:
    """Return the records as a Markdown table."""
    titles = ["initial weights", "seconds (min .. max)", "speed", "transfers a step", "early reflections"]
    rows = [
        [
            str(r["engine"]),
            f"{r['median']:.2f} ({r['least']:.2f} .. {r['greatest']:.2f})",
            f"{r['ratio']:.2f} x",
            f"{r['transfers']:.1f}",
            f"{r['early']:.0%}",
        ]
        for r in records
    ]
    return table(titles, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter that has SGLang")
    parser.add_argument("--turns", type=int, default=8)
    arguments = parser.parse_args()
    records = measure(arguments.python, arguments.turns)
    RESULTS.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(records_table(records))
