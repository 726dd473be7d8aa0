"""Puts what the benchmarks measured into benchmarks/RESULTS.md: the loss and scoring engine's, and those of rollouts.

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
PLACES = {
    "engine": ("<!-- tables: python benchmarks/report.py -->", "<!-- end of tables -->"),
    "rollouts": ("<!-- tables: python benchmarks/report.py rollouts -->", "<!-- end of rollouts -->"),
}
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
    lines = [
        f"On {found[0]['machine']}. {_spreads(found)} Cells with a star: one run of each program, for they "
        "take minutes; =: the figures of every token weighted, for such a program computes every token whatever its weight."
    ]
    for beta, top in sorted({(row["case"]["beta"], row["case"]["top"]) for row in found}):
        mine = [row for row in found if (row["case"]["beta"], row["case"]["top"]) == (beta, top)]
        names = list(mine[0]["memory"])
        support = f"top {top} and tail" if top else "whole vocabulary"
        lines += ["", f"**{'JSD .5' if beta else 'forward KL'}, {support}** (seconds, MiB above the floor)", ""]
        titles = ["tokens", "V", "H", "weighted", *names, "time: ours / best", "memory: ours / best"]
        lines.append(table(titles, [_loss_row(row, names) for row in sorted(mine, key=_order)]))
    return lines


def _spreads(found: list[Row]) -> str:
    """Say how far the repeats of one program lie apart."""
    times = [time for row in found if row.get("repeats") != 0 for time in row.get("seconds", {}).values()]
    ratios = sorted(time["greatest"] / time["least"] for time in times)
    if not ratios:
        return ""
    return f"Slowest over fastest repeat of a program: {ratios[len(ratios) // 2]:.2f} in the middle, {ratios[-1]:.2f} at most."


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
    """Return how far the programs' results lie apart, over all cases of the loss."""
    worst: dict[str, float] = {}
    for device in ("cpu", "cuda"):
        for row in rows(f"loss-{device}"):
            for name, far in row.get("gaps", {}).items():
                worst[name] = max(worst.get(name, 0.0), *far.values())
    told = (f"{name} {value:.1e}" for name, value in worst.items() if name != "ours")
    return f"Largest relative gap of loss or gradient to ours, over all cases: {', '.join(told)}."


def steps(device: str) -> list[str]:
    """Return the table of the whole SDPO step; the newest row of each model counts."""
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
    """Return where a step of `rosd` goes, from the newest measurement."""
    found = rows(f"phases-{device}")
    if not found:
        return ["Not measured yet."]
    row = found[-1]
    cells = []
    for name, seconds in row["seconds"].items():
        floor = row["floor"][name]
        cells.append([name, f"{seconds:.3f}", f"{floor:.3f}", f"{100 * floor / seconds:.0f} %" if seconds else ""])
    told = f"On {row['machine']}; {row['gflops']:.0f} GFLOP/s on a large product. Medians of {row['steps']} steps."
    return [told, "", table(["phase", "seconds", "floor", "floor / seconds"], cells)]


def rollouts(device: str) -> list[str]:
    """Return the tables of both engines' speed and of the ways of weights; the newest row of each model counts."""
    newest = {row["model"]: row for row in rows(f"rollouts-{device}")}
    if not newest:
        return ["Not measured yet."]
    some = next(iter(newest.values()))
    speeds, transfers = [], []
    for model, row in newest.items():
        size = row["bytes"] / 1e9
        found = {name: row["tokens"][name] / time["median"] for name, time in row["rollouts"].items()}
        for name, speed in found.items():
            ratio = f"{speed / found['transformers']:.2f} x transformers" if name == "sglang" else ""
            speeds.append([model, name, f"{row['tokens'][name]:,.0f}", _spread(row["rollouts"][name]), f"{speed:,.0f}", ratio])
        for way, time in row["sync"].items():
            transfers.append([model, f"{size:.4f}", way, _spread(time), f"{time['median'] / size:.1f}"])
        transfers += [[model, f"{size:.4f}", way, f"failed: {why}", ""] for way, why in row.get("failed", {}).items()]
    told = f"On {some['machine']}; SGLang {some['sglang']}, {some['dtype']}, {some['requests']} requests."
    return [
        told,
        "",
        table(["model", "engine", "tokens", "seconds (least .. greatest)", "tokens/s", ""], speeds),
        "",
        table(["model", "GB", "way", "seconds (least .. greatest)", "seconds/GB"], transfers),
    ]


def _spread(time: dict[str, float]) -> str:
    return f"{time['median']:.3g} ({time['least']:.3g} .. {time['greatest']:.3g})"


def engine_parts() -> list[str]:
    """Return what stands between the marks of the loss and scoring engine."""
    return [
        "### The loss alone, CPU",
        *losses("cpu"),
        "",
        gaps(),
        "",
        "### The loss alone, GPU",
        *losses("cuda"),
        "",
        "### A whole SDPO step, CPU",
        *steps("cpu"),
        "",
        "### A whole SDPO step, GPU",
        *steps("cuda"),
        "",
        "### A step of `rosd` on the embedded model, CPU",
        *phases("cpu"),
        "",
        "### A step of `rosd`, GPU",
        *phases("cuda"),
    ]


def rollout_parts() -> list[str]:
    """Return what stands between the marks of rollouts and transfers."""
    return ["### CPU", *rollouts("cpu"), "", "### GPU", *rollouts("cuda")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=tuple(PLACES), help="both, if it is left out")
    asked = parser.parse_args().what
    for what in [asked] if asked else PLACES:
        begin, end = PLACES[what]
        parts = engine_parts() if what == "engine" else rollout_parts()
        before, _, rest = PAGE.read_text().partition(begin)
        PAGE.write_text(f"{before}{begin}\n\n" + "\n".join(parts) + f"\n\n{end}{rest.partition(end)[2]}")
        print(f"wrote the tables of {what} in {PAGE.name}")


if __name__ == "__main__":
    main()
