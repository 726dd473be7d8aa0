"""The profiles for GPUs from end to end on the CPU: their own YAML, a tiny Qwen3 in bfloat16, real servers, a resumed run.

Overridden are device, sizes, paths, the number of processes, colocation and arguments of the server; and the verifier, because
a model with random weights answers nothing right.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from rosd_kit.files import read_json_lines
from rosd_kit.serving.server import free_port
from tests.model.conftest import COIN
from tests.model.tiny_models import save
from tests.sglang.conftest import ONE_THREAD, ROOT

SIZES = (
    *("steps=2", "problems_per_step=2", "group_size=2", "sampling.max_new_tokens=10", "reflector.max_new_tokens=10"),
    *("sampling.max_prompt_tokens=1024", "sampling.max_teacher_prompt_tokens=2048", "reflector.max_prompt_tokens=2048"),
    *("evaluation.problems=1", "evaluation.samples=1", "checkpoint.every=1", "verifier={name: coin, truncated: score}"),
)


def finished(command: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.timeout(900)
@pytest.mark.slow  # minutes each; `.ci/torchrun` runs them
@pytest.mark.parametrize(("profile", "processes"), [("one-gpu", 1), ("paper-4b", 2), ("paper-8b", 2)])
def test_a_profile_trains_saves_and_resumes(python, tmp_path, profile, processes):
    model = save(tmp_path / "qwen3", max_position_embeddings=4096)
    where = [
        *("model.device=cpu", f"model.path={model}", "rollout.colocated=false", f"rollout.launch.python={python}"),
        "rollout.launch.args={mem_fraction_static: 0.1}",
        ONE_THREAD,
    ]
    start = [sys.executable, "-m", "rosd_kit"]
    if processes > 1:
        where.append(f"parallel.processes={processes}")
        torchrun = ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(free_port("127.0.0.1"))]
        start = [sys.executable, "-m", *torchrun, "-m", "rosd_kit"]
    words = ["run", "rosd", "--profile", profile, "--plugin", str(COIN), "--out", str(tmp_path), "--quiet"]
    finished([*start, *words, *SIZES, *where])
    folder = tmp_path / "rosd-1"
    finished([*start, "run", "--resume", str(folder), "--plugin", str(COIN), "--quiet", "steps=3"])
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(step["train/loss"] > 0 and step["train/weighted_tokens"] > 0 for step in steps)
    assert all(step["engine/probe_max"] < 2 for step in steps) and steps[0]["engine/mismatch_mean"] < 0.1
    assert len(list(read_json_lines(folder / "evaluations.jsonl"))) > 0
    assert all(step["train/weight_change"] > 0 for step in steps)
    trained = load_file(folder / "model/model.safetensors")
    assert {str(tensor.dtype) for tensor in trained.values()} == {"torch.bfloat16"}
