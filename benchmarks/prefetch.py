"""Steps of ROSD on the embedded model with and without sampling ahead, in turns; what overlaps and what it gains.

    python benchmarks/prefetch.py                                   # in process; writes results/prefetch.jsonl
    python benchmarks/prefetch.py --python .sglang/bin/python       # and by an SGLang server, which shares the cores

A figure is the median of `time/step` over the steps of all turns but the first two of each run: with sampling ahead the first
batch is fresh, and both runs warm up. Ratios of one engine's two rows mean something, seconds of two engines side by side less.
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
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import ServerProcess

RESULTS = Path(__file__).parent / "results/prefetch.jsonl"
PARTS = ("time/step", "time/generate", "time/reflect", "time/train", "time/prefetch", "rollout/staleness", "train/ratio_mean")
SKIPPED = 2


def steps_of(folder: Path, name: str, changes: list[str]) -> list[dict[str, float]]:
    """Make a run and return the metrics of its steps."""
    manager = PluginManager(selection="builtin")
    recipe = load_recipe("rosd", changes, registry=manager.registry)
    run_recipe(recipe, plugins=manager, out=folder, name=name, resume=None, display=Display())
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()][SKIPPED:]


@contextmanager
def engines(folder: Path, python: str | None) -> Iterator[dict[str, list[str]]]:
    """Yield the changes that choose each engine; a server is launched once for all runs."""
    found = {"transformers": ["rollout=transformers"]}
    if python is None:
        yield found
        return
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    (command,) = launch_commands(student, Launch(python=python), folder=folder, colocated=False, api_key=None)
    server = ServerProcess(command, folder / "sglang.log")
    try:
        server.start()
        yield {
            **found,
            "sglang": ["rollout=sglang", f"rollout.url={command.url}", "rollout.check.every=0", "rollout.patience=900"],
        }
    finally:
        server.stop()


def measure(python: str | None, *, steps: int, turns: int) -> list[dict[str, object]]:
    """Return one record an engine and way."""
    common = [f"steps={steps + SKIPPED}", "evaluation.problems=0", "checkpoint.every=0", "samples.every=0", "model.device=cpu"]
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary, engines(Path(temporary), python) as chosen:
        for turn in range(turns):
            for engine, changes in chosen.items():
                for ahead in (0, 1):
                    changed = [*common, *changes, f"sampling.prefetch={ahead}"]
                    made = steps_of(Path(temporary), f"{engine}-{ahead}-{turn}", changed)
                    found.setdefault((engine, ahead), []).extend(made)
    return [
        {
            "engine": engine,
            "prefetch": ahead,
            "steps": len(lines),
            **{part: round(statistics.median(line[part] for line in lines), 5) for part in PARTS if part in lines[0]},
            "least": min(line["time/step"] for line in lines),
            "greatest": max(line["time/step"] for line in lines),
            "machine": machine(),
        }
        for (engine, ahead), lines in found.items()
    ]


def shown(records: list[dict[str, object]]) -> str:
    """Return the records as a Markdown table."""
    titles = [
        "engine",
        "prefetch",
        "step, s (least .. greatest)",
        "generate",
        "reflect",
        "train",
        "waited for the next",
        "gain",
    ]
    plain = {record["engine"]: record["time/step"] for record in records if not record["prefetch"]}
    rows = []
    for r in records:
        seconds = f"{r['time/step']:.3f} ({r['least']:.3f} .. {r['greatest']:.3f})"
        parts = [f"{r.get(part, 0.0):.3f}" for part in ("time/generate", "time/reflect", "time/train", "time/prefetch")]
        gain = f"{plain[r['engine']] / r['time/step']:.2f} x" if r["prefetch"] else ""
        rows.append([str(r["engine"]), str(r["prefetch"]), seconds, *parts, gain])
    return table(titles, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter that has SGLang")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    records = measure(asked.python, steps=asked.steps, turns=asked.turns)
    RESULTS.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(shown(records))
