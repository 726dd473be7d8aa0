"""Updates the tables in benchmarks/RESULTS.md from the benchmarks' results: loss and training step, and rollouts.

python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness import table

HERE = Path(__file__).parent
PAGE = HERE / "RESULTS.md"
MARKERS = {
    "engine": ("<!-- tables: python benchmarks/report.py -->", "<!-- end of tables -->"),
    "rollouts": ("<!-- tables: python benchmarks/report.py rollouts -->", "<!-- end of rollouts -->"),
}
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """Return the lines of one store; empty if nothing was measured."""
    store = HERE / f"results/{name}.jsonl"
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def losses(device: str) -> list[str]:
    """Return the tables of the loss alone: time and memory of every program, and ours relative to the best of the others."""
    cases = rows(f"loss-{device}")
    if not cases:
        return ["Not measured yet."]
    lines = [
        f"On {cases[0]['machine']}. {_spreads(cases)} Cells with a star: a single run of each program, since "
        "they take minutes; =: the figures with every token weighted, since the program computes every token regardless of its "
        "weight."
    ]
    for beta, top in sorted({(row["case"]["beta"], row["case"]["top"]) for row in cases}):
        group = [row for row in cases if (row["case"]["beta"], row["case"]["top"]) == (beta, top)]
        names = list(group[0]["memory"])
        support = f"top {top} and tail" if top else "full vocabulary"
        lines += ["", f"**{'JSD .5' if beta else 'forward KL'}, {support}** (seconds, MiB above the floor)", ""]
        titles = ["tokens", "V", "H", "weighted", *names, "time: ours / best", "memory: ours / best"]
        lines.append(table(titles, [_loss_row(row, names) for row in sorted(group, key=_order)]))
    return lines


def _spreads(cases: list[Row]) -> str:
    """Return a sentence on the variation between repeats of one program."""
    times = [time for row in cases if row.get("repeats") != 0 for time in row.get("seconds", {}).values()]
    ratios = sorted(time["greatest"] / time["least"] for time in times)
    if not ratios:
        return ""
    return f"Slowest over fastest repeat of a program: {ratios[len(ratios) // 2]:.2f} in the median, {ratios[-1]:.2f} at most."


def _order(row: Row) -> tuple[int, int, int, float]:
    case = row["case"]
    return case["tokens"], case["vocab"], case["hidden"], case["weighted"]


def _loss_row(row: Row, names: list[str]) -> list[str]:
    case, seconds, peaks = row["case"], row.get("seconds", {}), row["memory"]
    star = " *" if row.get("repeats") == 0 else ""
    cells = [f"{case['tokens']:,}{star}", f"{case['vocab']:,}", f"{case['hidden']:,}", f"{100 * case['weighted']:.0f} %"]
    for name in names:
        if name not in seconds:
            cells.append(peaks[name].get("failed", "failed"))
        else:
            mark = " =" if peaks[name].get("taken") else ""
            cells.append(f"{seconds[name]['median']:.2f} s, {max(0.0, peaks[name]['mib']):.0f}{mark}")
    others = [name for name in names[1:] if name in seconds]
    if not others:
        return [*cells, "alone", "alone"]
    time = seconds["ours"]["median"] / min(seconds[name]["median"] for name in others)
    memory = peaks["ours"]["mib"] / min(peaks[name]["mib"] for name in others)
    return [*cells, f"{time:.2f}", f"{memory:.2f}"]


def gaps() -> str:
    """Return a sentence on the largest deviation of the programs' results from ours, over all cases of the loss."""
    worst: dict[str, float] = {}
    for device in ("cpu", "cuda"):
        for row in rows(f"loss-{device}"):
            for name, distances in row.get("gaps", {}).items():
                worst[name] = max(worst.get(name, 0.0), *distances.values())
    listed = (f"{name} {value:.1e}" for name, value in worst.items() if name != "ours")
    return f"Largest relative difference of loss or gradient from ours, over all cases: {', '.join(listed)}."


def steps(device: str) -> list[str]:
    """Return the table of the full SDPO step, from the newest row of each model."""
    newest = {row["model"]: row for row in rows(f"step-{device}")}
    if not newest:
        return ["Not measured yet."]
    lines = [f"On {next(iter(newest.values()))['machine']}. `ours-N`: micro-batches of N tokens; `trl-N`: of N samples.", ""]
    cells = []
    for model, row in newest.items():
        speeds = {name: row["tokens"] / time["median"] for name, time in row["seconds"].items()}
        best = max((speed for name, speed in speeds.items() if name.startswith("trl")), default=float("nan"))
        for name, speed in speeds.items():
            cells.append([model, name, f"{speed:,.0f}", f"{speed / best:.2f}", f"{row['memory'][name]['mib']:,.0f}"])
    return [*lines, table(["model", "program", "tokens/s", "over the fastest of TRL", "MiB in a step"], cells)]


def phases(device: str) -> list[str]:
    """Return how the time of a `rosd` step divides into phases, from the newest measurement."""
    measured = rows(f"phases-{device}")
    if not measured:
        return ["Not measured yet."]
    row = measured[-1]
    cells = []
    for name, seconds in row["seconds"].items():
        floor = row["floor"][name]
        cells.append([name, f"{seconds:.3f}", f"{floor:.3f}", f"{100 * floor / seconds:.0f} %" if seconds else ""])
    note = f"On {row['machine']}; {row['gflops']:.0f} GFLOP/s in a large matrix product. Medians of {row['steps']} steps."
    return [note, "", table(["phase", "seconds", "floor", "floor / seconds"], cells)]


def rollouts(device: str) -> list[str]:
    """Return the tables of both engines' speed and of weight transfer, from the newest row of each model."""
    newest = {row["model"]: row for row in rows(f"rollouts-{device}")}
    if not newest:
        return ["Not measured yet."]
    first = next(iter(newest.values()))
    speeds, transfers = [], []
    for model, row in newest.items():
        size = row["bytes"] / 1e9
        by_engine = {name: row["tokens"][name] / time["median"] for name, time in row["rollouts"].items()}
        for name, speed in by_engine.items():
            ratio = f"{speed / by_engine['transformers']:.2f} x transformers" if name == "sglang" else ""
            speeds.append([model, name, f"{row['tokens'][name]:,.0f}", _spread(row["rollouts"][name]), f"{speed:,.0f}", ratio])
        for method, time in row["sync"].items():
            transfers.append([model, f"{size:.4f}", method, _spread(time), f"{time['median'] / size:.1f}"])
        transfers += [[model, f"{size:.4f}", method, f"failed: {why}", ""] for method, why in row.get("failed", {}).items()]
    return [
        f"On {first['machine']}; SGLang {first['sglang']}, {first['dtype']}, {first['requests']} requests.",
        "",
        table(["model", "engine", "tokens", "seconds (min .. max)", "tokens/s", ""], speeds),
        "",
        table(["model", "GB", "method", "seconds (min .. max)", "seconds/GB"], transfers),
    ]


def _spread(time: dict[str, float]) -> str:
    return f"{time['median']:.3g} ({time['least']:.3g} .. {time['greatest']:.3g})"


def engine_section() -> list[str]:
    """Return the section on the loss and the training step."""
    return [
        "### The loss alone, CPU",
        *losses("cpu"),
        "",
        gaps(),
        "",
        "### The loss alone, GPU",
        *losses("cuda"),
        "",
        "### A full SDPO step, CPU",
        *steps("cpu"),
        "",
        "### A full SDPO step, GPU",
        *steps("cuda"),
        "",
        "### A step of `rosd` on the embedded model, CPU",
        *phases("cpu"),
        "",
        "### A step of `rosd`, GPU",
        *phases("cuda"),
    ]


def rollout_section() -> list[str]:
    """Return the section on rollouts and weight transfer."""
    return ["### CPU", *rollouts("cpu"), "", "### GPU", *rollouts("cuda")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=tuple(MARKERS), help="one section; default: both")
    chosen = parser.parse_args().what
    for what in [chosen] if chosen else MARKERS:
        begin, end = MARKERS[what]
        section = engine_section() if what == "engine" else rollout_section()
        before, _, rest = PAGE.read_text().partition(begin)
        PAGE.write_text(f"{before}{begin}\n\n" + "\n".join(section) + f"\n\n{end}{rest.partition(end)[2]}")
        print(f"wrote the {what} tables in {PAGE.name}")


if __name__ == "__main__":
    main()
