"""Measures how the time and memory of a training step grow with the work, one axis at a time.

    python benchmarks/growth.py                      # all axes; writes results/growth-cpu.jsonl, about twenty minutes
    python benchmarks/growth.py --axes response      # some axes
    python benchmarks/growth.py --axes response --most 1024
    python benchmarks/growth.py --plot growth.svg    # draws results/growth-cpu.jsonl (pip install "rosd-kit[plots]")

A step is one of `recipes/sdpo.yaml` from given rollouts: teacher forward, student forward and backward, JSD on the top-100,
clipping, AdamW. The model has the shape of the embedded one (4 layers of width 128) with random weights; axis by axis, one
number leaves its base value:

    response     64 to 8,192 tokens per response     group        2 to 32 rollouts per problem
    vocabulary   2,000 to 256,000 entries            weighted     1 % to 100 % of the response tokens have a weight
    problems     1 to 32 per step

Responses are random, so rollouts share their prompt and nothing else. Every point runs in a process of its own. `floor` is the
time that the step's matrix products would take at the rate of a large one (as in `phases.py`), attention included, where the
prompt of a group counts once. A slope is the exponent between two neighbouring points: 1 means that twice the work takes twice
the time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from harness import clock, in_fresh_process, machine, table
from phases import matmul_rate, matrix_parameters

from rosd_kit.memory.live import LiveMemory
from rosd_kit.types import DistillSample

SCRIPT = Path(__file__)
RESULTS = SCRIPT.parent / "results"
PROMPT, SOLUTION = 32, 64
AXES: dict[str, tuple[float, ...]] = {
    "response": (64, 128, 256, 512, 1024, 2048, 4096, 8192),
    "group": (2, 4, 8, 16, 32),
    "vocabulary": (2_000, 8_000, 32_000, 128_000, 256_000),
    "weighted": (0.01, 0.03, 0.1, 0.3, 1.0),
    "problems": (1, 2, 4, 8, 16, 32),
}


@dataclass(frozen=True)
class Work:
    """What a step is made of; the defaults are the base from which one axis departs."""

    response: int = 128
    group: int = 4
    vocabulary: int = 8_000
    weighted: float = 1.0
    problems: int = 2

    @classmethod
    def at(cls, axis: str, value: float) -> Work:
        """Return the base with one number changed. The longest responses come from one problem."""
        work = replace(cls(), **{axis: value if axis == "weighted" else int(value)})
        return replace(work, problems=1) if axis == "response" else work


def measured(work: Work, repeats: int) -> dict[str, float]:
    """Return the CPU seconds of a step, the peak of what it allocates in MiB, and its floor in seconds."""
    from step import program

    model, tokenizer = _model(work), _tokenizer()
    samples = _samples(work)
    step = program("ours-4096", model, tokenizer, samples, "cpu")
    step()
    seconds = []
    for _ in range(repeats):
        start = clock("cpu")
        step()
        seconds.append(clock("cpu") - start)
    with LiveMemory() as memory:
        step()
    return {
        "seconds": round(statistics.median(seconds), 4),
        "least": round(min(seconds), 4),
        "greatest": round(max(seconds), 4),
        "mib": round(memory.peak / 2**20, 1),
        "floor": round(floor_flops(work, model) / matmul_rate("cpu"), 4),
    }


def floor_flops(work: Work, model: Any) -> float:
    """Return the floating-point operations of a step's matrix products: four passes, one of them the teacher's.

    A pass of a token costs 2 per parameter of the matrices, and 4 times width per token that it attends to; the student's
    forward and backward pass are three. The head runs on weighted tokens only.
    """
    backbone, head = matrix_parameters(model)
    layers, width = model.config.num_hidden_layers, model.config.num_attention_heads * model.config.head_dim

    def passes(prompt: int) -> float:
        tokens = work.problems * (prompt + work.group * work.response)
        pairs = work.problems * (prompt**2 / 2 + work.group * work.response * (prompt + work.response / 2))
        return 2 * backbone * tokens + 4 * width * layers * pairs

    weighted = work.problems * work.group * work.response * work.weighted
    return 3 * passes(PROMPT) + passes(PROMPT + SOLUTION) + 4 * 2 * head * weighted


def _model(work: Work) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=work.vocabulary, hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32, tie_word_embeddings=True, max_position_embeddings=16_384, pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def _tokenizer() -> Any:
    """Return a tokenizer for its pad token; nothing is tokenised."""
    from rosd_kit.model.micro.tokenizer import build_tokenizer

    return build_tokenizer()


def _samples(work: Work) -> list[DistillSample]:
    """Return random samples; the first of a response's tokens have the weight."""
    from step import random_groups

    response = (work.response, work.response + 1)
    samples = random_groups(
        work.problems, vocabulary=work.vocabulary, prompt=PROMPT, solution=SOLUTION, response=response, members=work.group
    )
    count = max(1, round(work.weighted * work.response))
    weights = (1.0,) * count + (0.0,) * (work.response - count)
    return [replace(sample, token_weights=weights) for sample in samples]


def slopes(rows: Sequence[dict[str, Any]], key: str) -> list[float | None]:
    """Return the exponent between each point and the one before it."""
    return [None, *(math.log(b[key] / a[key]) / math.log(b["value"] / a["value"]) for a, b in pairwise(rows))]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table for each axis, in the order of the rows."""
    tables = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        points = [row for row in rows if row["axis"] == axis]
        lines = [
            [
                f"{row['value']:,g}", f"{row['seconds']:.3f} ({row['least']:.3f} to {row['greatest']:.3f})", _exponent(time),
                f"{row['floor']:.3f}", _exponent(floor), f"{row['seconds'] / row['floor']:.1f}",
                f"{row['mib']:,.0f}", _exponent(mib),
            ]
            for row, time, floor, mib in zip(
                points, slopes(points, "seconds"), slopes(points, "floor"), slopes(points, "mib"), strict=True
            )
        ]  # fmt: skip
        tables.append(table([axis, "CPU s", "slope", "floor, s", "slope", "s / floor", "MiB", "slope"], lines))
    return "\n\n".join(tables)


def _exponent(slope: float | None) -> str:
    return "" if slope is None else f"{slope:.2f}"


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time and floor above, memory below, one column for each axis."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3 * len(axes), 5.5), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        points = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in points]
        above, below = panels[0][column], panels[1][column]
        above.loglog(values, [row["seconds"] for row in points], "o-", label="step")
        above.loglog(values, [row["floor"] for row in points], "--", label="floor")
        below.loglog(values, [row["mib"] for row in points], "o-", color="C2")
        above.set_title(axis)
        below.set_xlabel(axis)
        labels = [f"{value / 1000:g}k" if value >= 1000 else f"{value:g}" for value in values]
        for panel in (above, below):
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks(values, labels, rotation=60)
    panels[0][0].set_ylabel("CPU seconds")
    panels[1][0].set_ylabel("peak MiB")
    panels[0][0].legend()
    FigureCanvasSVG(figure).print_svg(path)


def points(axes: Iterable[str], most: float) -> list[tuple[str, float]]:
    """Return the points to measure, without values above `most`."""
    return [(axis, value) for axis in axes for value in AXES[axis] if value <= most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--most", type=float, default=math.inf, help="leave out greater values")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="SVG", help="measure nothing, draw what was measured")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    store = RESULTS / "growth-cpu.jsonl"
    if arguments.plot:
        plot([json.loads(line) for line in store.read_text().splitlines()], arguments.plot)
        return
    if arguments.task:
        print(json.dumps(measured(Work(**arguments.task["work"]), arguments.task["repeats"])))
        return
    rows = []
    for axis, value in points(arguments.axes, arguments.most):
        task = {"work": asdict(Work.at(axis, value)), "repeats": arguments.repeats}
        row = {"axis": axis, "value": value, "machine": machine(), **in_fresh_process(SCRIPT, task)}
        print(json.dumps(row), flush=True)
        if "failed" not in row:
            rows.append(row)
    others = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    kept = [row for row in others if row["axis"] not in arguments.axes]
    store.write_text("".join(json.dumps(row) + "\n" for row in [*kept, *rows]))
    print(summary(rows))


if __name__ == "__main__":
    main()
