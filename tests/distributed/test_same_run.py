"""A run in two processes is the run in one: the same samples, losses, evaluations and weights."""

from __future__ import annotations

import pytest
import torch

from rosd_kit.train.checkpoint import list_checkpoints, load_checkpoint
from tests.distributed.conftest import TINY, Finished, launch

CASES = {
    "rosd-ddp": ("rosd", ["parallel.mode=ddp"]),
    "rosd-fsdp": ("rosd", ["parallel.mode=fsdp", "parallel.processes=2"]),
    "another-problems-solution": ("op2sd", ["parallel.mode=ddp"]),
    "ema-teacher": ("sdpo", ["parallel.mode=fsdp"]),
    "adapters": ("rosd", ["parallel.mode=fsdp", "model.lora.rank=4", "teacher=adapter_off", "model.lora.dropout=0"]),
    "two-experts-and-second-look": ("sdpo", ["parallel.mode=fsdp", "teacher=trust_region", "localizer=top_divergence"]),
    "checkpointed-activations": ("opsd", ["parallel.mode=fsdp", "model.gradient_checkpointing=true"]),
    "one-problem-for-two": ("opsd", ["parallel.mode=fsdp", "problems_per_step=1"]),
    "advantages": ("grpo", ["parallel.mode=ddp"]),
    "sampled-reflections": ("rosd", ["parallel.mode=ddp", "reflector.temperature=1.0"]),
}


def job(name, *, mode=None):
    recipe, changes = CASES[name]
    alone = ["parallel.mode=auto", "parallel.processes=null"] if mode == "alone" else []
    return {"recipe": recipe, "changes": [*TINY, *changes, *alone], "name": name}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    found = launch(out, [job(name) for name in CASES])
    assert found.returncode == 0, found.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", CASES)
def test_two_processes_make_the_run_of_one(name, together, alone, tmp_path):
    alone(tmp_path, job(name, mode="alone"))
    one, two = Finished(tmp_path / name), Finished(together / name)
    expected, found = one.numbers(), two.numbers()
    assert len(found) == 2 and any(step["train/weighted_tokens"] for step in found)
    for before, after in zip(expected, found, strict=True):
        assert after == pytest.approx(before, rel=1e-4, abs=1e-5)
    assert two.lines("evaluations.jsonl") == one.lines("evaluations.jsonl")
    weights = one.weights()
    for tensor_name, tensor in two.weights().items():
        torch.testing.assert_close(tensor, weights[tensor_name], rtol=0, atol=2e-5, msg=lambda m, n=tensor_name: f"{n}: {m}")


@pytest.mark.parametrize("name", ["rosd-fsdp", "ema-teacher", "adapters"])
def test_checkpoints_hold_whole_tensors(name, together, alone, tmp_path):
    alone(tmp_path, job(name, mode="alone"))
    one, two = (load_checkpoint(list_checkpoints(out / name / "checkpoints")[-1]) for out in (tmp_path, together))
    for part in ("student", "optimizer", "teacher"):
        shapes = {key: value.shape for key, value in one.parts[part].items()}
        assert {key: value.shape for key, value in two.parts[part].items()} == shapes


def test_one_process_writes_and_tells(together):
    assert (together / "rank-0").read_text().splitlines() == [f"{name} {step}" for name in CASES for step in (1, 2)]
    assert not (together / "rank-1").exists()
