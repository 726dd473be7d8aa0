"""`benchmarks/gpu.py`: its parts by rehearsal on the CPU, its limits, and the packages that it says it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def rehearse(out: Path, *options: str) -> tuple[list[dict[str, Any]], int]:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--rehearse", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return [json.loads(line) for line in (out / "gpu-rehearsal.jsonl").read_text().splitlines()], done.returncode


def test_a_part_that_exceeds_its_limit_ends_and_the_next_one_starts(tmp_path: Path) -> None:
    rows, code = rehearse(tmp_path, "--only", "versions", "gaps", "--seconds", "0.01")
    assert code == 1
    assert [(row["of"], row["as"]) for row in rows if row["part"] == "ended"] == [("versions", "limit"), ("gaps", "limit")]


def test_a_part_that_fails_says_why_and_keeps_what_was_measured_before(tmp_path: Path) -> None:
    (tmp_path / "gpu-rehearsal.jsonl").write_text('{"part": "earlier"}\n')
    rows, code = rehearse(tmp_path, "--only", "model")
    assert code == 1 and rows[0] == {"part": "earlier"}
    assert rows[-1]["as"] == "failed" and rows[-1]["said"] == ["--only model needs --model PATH"]


def test_without_a_card_it_names_the_rehearsal() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = subprocess.run([sys.executable, str(BENCHMARKS / "gpu.py")], capture_output=True, text=True)
    assert done.returncode == 1 and "no CUDA device" in done.stderr and "--rehearse" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_part_measures_something_in_a_rehearsal(tmp_path: Path) -> None:
    parts = ("versions", "tests", "loss", "attention", "train", "step", "gaps", "laboratory")
    rows, code = rehearse(tmp_path, "--only", *parts)
    assert code == 0 and {row["as"] for row in rows if row["part"] == "ended"} == {"done"}
    by = {part: [row for row in rows if row["part"] == part] for part in {row["part"] for row in rows}}
    assert by["versions"][-1]["exit"] == 0 and by["tests"][-1]["exit"] == 0
    assert {row["program"] for row in by["loss"]} == {"ours", "trl_chunked", "sdpo_full", "gkd", "liger", "sdpo_top"}
    measured = {(row["program"], row["case"]["top"]): row["loss"] for row in by["loss"] if "loss" in row}
    assert measured["ours", 0] == pytest.approx(measured.get(("trl_chunked", 0), measured["ours", 0]), rel=0.02)
    engines = {row["engine"]: row for row in by["attention"]}
    assert engines.keys() == {"segments", "padded", "flex"}
    assert all(row["max_difference"] < 0.03 and row["kernels"] for row in engines.values())
    steps = {(row["recipe"], row["lora"]): row for row in by["step"]}
    assert steps.keys() == {(recipe, lora) for recipe in ("rosd", "sdpo") for lora in (False, True)}
    for row in by["train"]:
        assert row["mfu"] == pytest.approx(row["floor_seconds"] / row["seconds"]["median"], rel=0.01) and row["loss"] > 0
    for row in steps.values():
        floors = row["floor_seconds"]
        assert floors["step"] == pytest.approx(sum(floors[phase] for phase in floors if phase != "step")) and row["loss"] > 0
        assert row["mfu"] == pytest.approx(floors["step"] / row["seconds"]["step"]) and row["mfu"] > 0
    assert steps["rosd", False]["seconds"]["reflect"] > 0 and steps["rosd", False]["weighted_tokens"] > 0
    assert all(row["mean"] < 0.02 for row in by["gaps"])
    assert by["laboratory"][-1]["finished"] and len(by["laboratory"][-1]["loss"]) == 2


def test_the_listed_wheels_are_the_dependencies_beyond_torch() -> None:
    there = closure(
        *("torch", "transformers", "accelerate", "pytest", "hypothesis", "pluggy", "typer", "rich", "scipy", "jaxtyping"),
        "safetensors",
    )
    lines = (BENCHMARKS / "gpu-wheels.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    lacking = closure("rosd-kit[lora]") - there - {"rosd-kit"}
    # transformers brings these in some versions and not in others.
    pydantic = {"pydantic", "pydantic-core", "annotated-types", "typing-inspection"}
    assert listed - pydantic == lacking - pydantic and pydantic <= listed


def closure(*names: str) -> set[str]:
    """Return the names of these installed packages and of everything they require here."""
    todo, seen = [Requirement(name) for name in names], set()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if (name, *sorted(extras)) in seen:
            continue
        seen.add((name, *sorted(extras)))
        try:
            requires = [Requirement(text) for text in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        todo += [r for r in requires if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    return {name for name, *_ in seen}
