"""Compares the in-process rollout engine with transformers' `generate` at the same work, in turns in one run.

    python benchmarks/decode.py            # embedded model and SmolLM2-135M; writes results/decode-cpu.jsonl
    python benchmarks/decode.py --quick    # fewer turns, and fewer problems for SmolLM2; about three minutes on two cores
    python benchmarks/decode.py --models micro

The work is one step of the recipe `rosd`, recorded in a real run: all its rollouts (`sampling`, temperature 1), then all its
reflections (`reflecting`, greedy). Both programs get the same requests. `generate` gets at most the engine's `max_batch` rows
at a time, sorted by length, and gives no log-probs; the engine does. They use different random numbers, so CPU seconds per
delivered token are compared, up to the end token. Some reflections are asked for more than once; the engine notices that,
`generate` does not. The column `same work` is the ratio if `generate` gets each only once. The last line is the least ratio.

`of the ceiling` looks at the engine's steps over one token per row, without prompts and drawing: the least time that each could
take, divided by the time it took. That is either the time of its floating-point operations at the rate of a large matrix
product, or the time to read all weights once at the rate of reading a large vector, whichever is longer; both rates are
measured in the same process. Attention is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import clock, machine, table, take_turns
from phases import matmul_rate, matrix_parameters

import rosd_kit as rk
from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.decoding.shared import SharedRows
from rosd_kit.display import make_display
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

RESULTS = Path(__file__).parent / "results"
#: Profile, changes to the recipe, and those of `--quick`, for each model.
MODELS: dict[str, tuple[str | None, list[str], list[str]]] = {
    "micro": (None, [], []),
    "smollm2-135m": (
        "smol",
        ["problems_per_step=16", "sampling.max_new_tokens=64", "sampling.temperature=1.0", "reflector.max_new_tokens=64"],
        ["problems_per_step=8", "sampling.max_new_tokens=32", "reflector.max_new_tokens=32"],
    ),
}


class RecordingEngine(TransformersEngine):
    """Keeps the requests of all its calls."""

    name = "recording"

    def start(self, student: Any, site: Any = None) -> None:
        super().start(student, site)
        self.calls: list[tuple[PolicyWeights, list[GenerateRequest]]] = []

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        self.calls.append((weights, list(requests)))
        return super().generate(requests, weights=weights)


def recorded(profile: str | None, changes: Sequence[str]) -> dict[str, list[GenerateRequest]]:
    """Return the requests of one step of `rosd`: those of the rollouts, and those of the reflections."""
    engine = RecordingEngine(RecordingEngine.Config())
    with tempfile.TemporaryDirectory() as out:
        overrides = ["steps=1", "evaluation.problems=0", "checkpoint.every=0", *changes]
        rk.train(
            "rosd",
            overrides=overrides,
            profile=profile,
            components={"rollout": engine},
            out=out,
            display=make_display(quiet=True),
        )
    work: dict[str, list[GenerateRequest]] = {"sampling": [], "reflecting": []}
    for weights, requests in engine.calls:
        work["sampling" if weights == "live" else "reflecting"] += requests
    return work


def without_repeats(requests: Sequence[GenerateRequest]) -> list[GenerateRequest]:
    """Return the requests that do not give the same tokens as another one."""
    return list({(r.prompt_ids, r.seed if r.sampling.temperature else 0): r for r in requests}.values())


def with_generate(student: Student, requests: Sequence[GenerateRequest], max_batch: int) -> int:
    """Continue the requests with transformers' `generate`; return the number of generated tokens."""
    ends, tokens = sorted(student.end_ids), 0
    ordered = sorted(requests, key=lambda request: len(request.prompt_ids))
    for start in range(0, len(ordered), max_batch):
        batch = ordered[start : start + max_batch]
        longest, sampling = max(len(request.prompt_ids) for request in batch), batch[0].sampling
        ids = torch.tensor([[student.pad_id] * (longest - len(r.prompt_ids)) + list(r.prompt_ids) for r in batch])
        mask = torch.tensor([[0] * (longest - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch])
        drawn = {"do_sample": True, "temperature": sampling.temperature} if sampling.temperature else {"do_sample": False}
        with torch.inference_mode():
            out = student.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=sampling.max_new_tokens, top_k=None, top_p=None,
                eos_token_id=ends, pad_token_id=student.pad_id, **drawn,
            )  # fmt: skip
        for row in out[:, longest:].tolist():
            tokens += next((index + 1 for index, id in enumerate(row) if id in ends), len(row))
    return tokens


def read_rate() -> float:
    """Return how many bytes a second can be read, at best, from memory that no cache holds."""
    numbers = torch.ones(1 << 27)
    rates = []
    for _ in range(5):
        start = clock("cpu")
        numbers.sum()
        rates.append(numbers.nbytes / (clock("cpu") - start))
    return max(rates)


def ceiling_share(engine: TransformersEngine, student: Student, requests: Sequence[GenerateRequest]) -> dict[str, float]:
    """Return which share of the machine's ceiling the steps over one token per row reach; see the top of this file."""
    steps: list[tuple[int, float]] = []
    usual = SharedRows.forward

    def timed(rows: SharedRows, tokens: torch.Tensor) -> torch.Tensor:
        start = clock("cpu")
        logits = usual(rows, tokens)
        steps.append((len(tokens), clock("cpu") - start))
        return logits

    SharedRows.forward = timed  # type: ignore[method-assign]
    try:
        engine.generate(requests)
    finally:
        SharedRows.forward = usual  # type: ignore[method-assign]
    products, reading = matmul_rate("cpu"), read_rate()
    parameters = sum(matrix_parameters(student.model))
    read = 4 * parameters / reading
    least = sum(max(2 * parameters * rows / products, read) for rows, _ in steps)
    return {
        "steps": len(steps),
        "rows": statistics.mean(rows for rows, _ in steps),
        "gflops": products / 1e9,
        "gbytes": reading / 1e9,
        "share": least / sum(seconds for _, seconds in steps),
        "read_share": len(steps) * read / sum(seconds for _, seconds in steps),
    }


def compare(model: str, *, quick: bool) -> dict[str, Any]:
    """Return the seconds per generated token of both programs, for sampling and for reflecting."""
    profile, changes, fewer = MODELS[model]
    changes = [*changes, *(fewer if quick else [])]
    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("rosd", changes, profile=profile, registry=registry)
    work = recorded(profile, changes)
    student = Student.load(recipe.model, keep_initial=False)
    engine = TransformersEngine(TransformersEngine.Config())
    engine.start(student)
    engine.generate(work["sampling"][:2])  # how to cache is tried out once
    row: dict[str, Any] = {"model": model, "machine": machine(), "quick": quick}
    for name, requests in work.items():
        if not requests:
            raise SystemExit(f"{model}: the step had nothing to reflect on; choose another seed")
        counts: dict[str, list[int]] = {"engine": [], "generate": [], "same work": []}
        once = without_repeats(requests)

        def by_engine(requests: Sequence[GenerateRequest] = requests, counts: dict[str, list[int]] = counts) -> None:
            counts["engine"].append(sum(len(completion.token_ids) for completion in engine.generate(requests)))

        def by_generate(
            name: str = "generate", requests: Sequence[GenerateRequest] = requests, counts: dict[str, list[int]] = counts
        ) -> None:
            counts[name].append(with_generate(student, requests, engine.config.max_batch))

        programs = {"engine": by_engine, "generate": by_generate}
        if len(once) < len(requests):
            programs["same work"] = partial(by_generate, "same work", once, counts)
        times = take_turns(programs, repeats=3 if quick else 7)
        per_token = {one: times[one].median / statistics.median(counts[one]) for one in times}
        # Each of the requests counts that the engine answers with one text.
        same_work = times["same work"].median / times["engine"].median if "same work" in times else None
        row[name] = {
            "requests": len(requests),
            "different": len(once),
            "tokens": {one: statistics.median(numbers) for one, numbers in counts.items() if numbers},
            "seconds": {one: t.to_json() for one, t in times.items()},
            "ratio": round(per_token["generate"] / per_token["engine"], 2),
            "ratio_same_work": same_work and round(same_work, 2),
            "ceiling": {key: round(value, 3) for key, value in ceiling_share(engine, student, requests).items()},
        }
    return row


def spread(seconds: dict[str, float]) -> str:
    """Return the median and the range as text."""
    return f"{seconds['median']:.2f} ({seconds['least']:.2f} to {seconds['greatest']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    lines, ratios = [], []
    for model in arguments.models:
        row = compare(model, quick=arguments.quick)
        with (RESULTS / "decode-cpu.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name in ("sampling", "reflecting"):
            part = row[name]
            cells = [spread(part["seconds"][one]) for one in ("engine", "generate")]
            same = part["ratio_same_work"] or part["ratio"]
            ratio, share = f"{part['ratio']:.2f}", f"{part['ceiling']['share']:.0%}"
            different = f"{part['different']} of {part['requests']}"
            lines.append([model, name, different, *cells, ratio, f"{same:.2f}", share])
            ratios.append(part["ratio"])
    times = ["engine, s", "`generate`, s", "ratio per token", "same work", "of the ceiling"]
    columns = ["model", "work", "different requests", *times]
    print(table(columns, lines))
    print(f"ratio {min(ratios):.2f}")


if __name__ == "__main__":
    main()
