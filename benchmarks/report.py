"""Puts what the benchmarks of the engine measured into benchmarks/RESULTS.md.

python benchmarks/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import table

HERE = Path(__file__).parent
PAGE = HERE / "RESULTS.md"
BEGIN, END = "<!-- tables: python benchmarks/report.py -->", "<!-- end of tables -->"
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """Return the lines of one store, or none where nothing was measured."""
    store = HERE / f"results/{name}.jsonl"
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def losses(device: str) -> list[str]:
    """Return the tables of the loss alone: time and memory of every program, and ours over the best of the others."""
    found = rows(f"loss-{device}")
    if not found:
        return ["Not measured yet."]
    lines = [f"On {found[0]['machine']}."]
    for beta, top in sorted({(row["case"]["beta"], row["case"]["top"]) for row in found}):
        mine = [row for row in found if (row["case"]["beta"], row["case"]["top"]) == (beta, top)]
        names = list(mine[0]["memory"])
        support = f"top {top} and tail" if top else "whole vocabulary"
        lines += ["", f"**{'JSD .5' if beta else 'forward KL'}, {support}** (seconds, MiB above the floor)", ""]
        titles = ["tokens", "V", "H", "weighted", *names, "time: ours / best", "memory: ours / best"]
        lines.append(table(titles, [_loss_row(row, names) for row in sorted(mine, key=_order)]))
    return lines


def _order(row: Row) -> tuple[int, int, int, float]:
    case = row["case"]
    return case["tokens"], case["vocab"], case["hidden"], case["weighted"]


def _loss_row(row: Row, names: list[str]) -> list[str]:
    case, seconds, peaks = row["case"], row.get("seconds", {}), row["memory"]
    cells = [f"{case['tokens']:,}", f"{case['vocab']:,}", f"{case['hidden']:,}", f"{100 * case['weighted']:.0f} %"]
    for name in names:
        if name not in seconds:
            cells.append(peaks[name].get("failed", "failed"))
        else:
            cells.append(f"{seconds[name]['median']:.2f} s, {max(0.0, peaks[name]['mib']):.0f}")
    others = [name for name in names[1:] if name in seconds]
    if not others:
        return [*cells, "alone", "alone"]
    time = seconds["ours"]["median"] / min(seconds[name]["median"] for name in others)
    memory = peaks["ours"]["mib"] / min(peaks[name]["mib"] for name in others)
    return [*cells, f"{time:.2f}", f"{memory:.2f}"]


def gaps() -> str:
    """Return how far the programs' results lie apart, over all cases of the loss."""
    worst: dict[str, float] = {}
    for device in ("cpu", "cuda"):
        for row in rows(f"loss-{device}"):
            for name, far in row.get("gaps", {}).items():
                worst[name] = max(worst.get(name, 0.0), *far.values())
    told = (f"{name} {value:.1e}" for name, value in worst.items() if name != "ours")
    return f"Largest relative gap of loss or gradient to ours, over all cases: {', '.join(told)}."


def steps() -> list[str]:
    """Return the table of the whole SDPO step; the newest row of each model counts."""
    newest = {row["model"]: row for row in rows("step")}
    if not newest:
        return ["Not measured yet."]
    lines = [f"On {next(iter(newest.values()))['machine']}. `ours-N`: micro-batches of N tokens; `trl-N`: of N samples.", ""]
    cells = []
    for model, row in newest.items():
        speeds = {name: row["tokens"] / time["median"] for name, time in row["seconds"].items()}
        best = max(speed for name, speed in speeds.items() if name.startswith("trl"))
        for name, speed in speeds.items():
            cells.append([model, name, f"{speed:,.0f}", f"{speed / best:.2f}", f"{row['memory'][name]['mib']:,.0f}"])
    return [*lines, table(["model", "program", "tokens/s", "over the fastest of TRL", "MiB in a step"], cells)]


def phases() -> list[str]:
    """Return where a step of `rosd` goes, from the newest measurement."""
    found = rows("phases")
    if not found:
        return ["Not measured yet."]
    row = found[-1]
    cells = []
    for name, seconds in row["seconds"].items():
        floor = row["floor"][name]
        cells.append([name, f"{seconds:.3f}", f"{floor:.3f}", f"{100 * floor / seconds:.0f} %" if seconds else ""])
    told = f"On {row['machine']}; {row['gflops']:.0f} GFLOP/s on a large product. Medians of {row['steps']} steps."
    return [told, "", table(["phase", "seconds", "floor", "floor / seconds"], cells)]


def main() -> None:
    parts = [
        "### The loss alone, CPU",
        *losses("cpu"),
        "",
        gaps(),
        "",
        "### The loss alone, GPU",
        *losses("cuda"),
        "",
        "### A whole SDPO step",
        *steps(),
        "",
        "### A step of `rosd` on the embedded model",
        *phases(),
    ]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n\n{END}{rest.partition(END)[2]}")
    print(f"wrote the tables of {PAGE.name}")


if __name__ == "__main__":
    main()
