"""Times steps of ROSD on the embedded model with and without prefetch, in turns.

    python benchmarks/prefetch.py                                   # with transformers; writes results/prefetch.jsonl
    python benchmarks/prefetch.py --python .sglang/bin/python       # also with an SGLang server, which shares the cores

Each number is the median over the steps of all turns, without the first two steps of each run: with prefetch the first batch is
fresh, and both runs warm up. Compare the two rows of one engine; seconds of different engines are less comparable.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import machine, table

from rosd_kit.display import Display
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe
from rosd_kit.serving.server import ServerProcess
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch

RESULTS = Path(__file__).parent / "results/prefetch.jsonl"
METRICS = ("time/step", "time/generate", "time/reflect", "time/train", "time/prefetch", "rollout/staleness", "train/ratio_mean")
WARMUP_STEPS = 2


def run_steps(folder: Path, name: str, changes: list[str]) -> list[dict[str, float]]:
    """Run the recipe and return the metrics of its steps, without the warm-up."""
    manager = PluginManager(selection="builtin")
    recipe = load_recipe("rosd", changes, registry=manager.registry)
    run_recipe(recipe, plugins=manager, out=folder, name=name, resume=None, display=Display())
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()][WARMUP_STEPS:]


@contextmanager
def engine_changes(folder: Path, python: str | None) -> Iterator[dict[str, list[str]]]:
    """Yield the recipe changes that select each engine; one server is launched for all runs."""
    engines = {"transformers": ["rollout=transformers"]}
    if python is None:
        yield engines
        return
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    (command,) = launch_commands(student, Launch(python=python), folder=folder, colocated=False, api_key=None)
    server = ServerProcess(command, folder / "sglang.log")
    try:
        server.start()
        yield {
            **engines,
            "sglang": ["rollout=sglang", f"rollout.url={command.url}", "rollout.check.every=0", "rollout.patience=900"],
        }
    finally:
        server.stop()


def measure(python: str | None, *, steps: int, turns: int) -> list[dict[str, object]]:
    """Return one record per engine and value of `sampling.prefetch`."""
    common = [
        f"steps={steps + WARMUP_STEPS}",
        "evaluation.problems=0",
        "checkpoint.every=0",
        "samples.every=0",
        "model.device=cpu",
    ]
    metrics: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary, engine_changes(Path(temporary), python) as engines:
        for turn in range(turns):
            for engine, changes in engines.items():
                for prefetch in (0, 1):
                    run = run_steps(
                        Path(temporary),
                        f"{engine}-{prefetch}-{turn}",
                        [*common, *changes, f"sampling.prefetch={prefetch}"],
                    )
                    metrics.setdefault((engine, prefetch), []).extend(run)
    return [
        {
            "engine": engine,
            "prefetch": prefetch,
            "steps": len(rows),
            **{name: round(statistics.median(row[name] for row in rows), 5) for name in METRICS if name in rows[0]},
            "least": min(row["time/step"] for row in rows),
            "greatest": max(row["time/step"] for row in rows),
            "machine": machine(),
        }
        for (engine, prefetch), rows in metrics.items()
    ]


def records_table(records: list[dict[str, object]]) -> str:
    """Return the records as a Markdown table."""
    titles = [
        "engine",
        "prefetch",
        "step, s (min .. max)",
        "generate",
        "reflect",
        "train",
        "waiting for prefetch",
        "speedup",
    ]
    baseline = {record["engine"]: record["time/step"] for record in records if not record["prefetch"]}
    rows = []
    for r in records:
        seconds = f"{r['time/step']:.3f} ({r['least']:.3f} .. {r['greatest']:.3f})"
        times = [f"{r.get(f'time/{name}', 0.0):.3f}" for name in ("generate", "reflect", "train", "prefetch")]
        speedup = f"{baseline[r['engine']] / r['time/step']:.2f} x" if r["prefetch"] else ""
        rows.append([str(r["engine"]), str(r["prefetch"]), seconds, *times, speedup])
    return table(titles, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter that has SGLang")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    records = measure(arguments.python, steps=arguments.steps, turns=arguments.turns)
    RESULTS.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(records_table(records))
