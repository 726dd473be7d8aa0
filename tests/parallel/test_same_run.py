"""A run in two processes equals the run in one: the same samples, losses, evaluations and weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.micro.model import base_path
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.export import export_checkpoint
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from tests.leaves import numbers_in
from tests.parallel.conftest import TINY, Finished

pytestmark = pytest.mark.timeout(900)  # parallel.timeout_minutes ends a hang earlier

EVALUATED = "evaluation.problems=2"
#: Two rollouts for each of four problems: each rank gets some, and no more are needed to be equal.
SHORT = (*TINY, "group_size=2", "checkpoint.every=0")
#: Stands for the folder of an adapter.
ADAPTER = "ADAPTER"
CASES: dict[str, tuple[str, list[str]]] = {
    "rosd-ddp": ("rosd", ["parallel.mode=ddp", EVALUATED]),
    "rosd-fsdp": ("rosd", ["parallel.mode=fsdp", "parallel.processes=2", EVALUATED]),
    "another-problems-solution": ("op2sd", ["parallel.mode=ddp"]),
    "ema-teacher": ("sdpo", ["parallel.mode=fsdp", "model.gradient_checkpointing=selective"]),
    "adapters": ("rosd", ["parallel.mode=fsdp", "model.lora.rank=4", "teacher=adapter_off", "model.lora.dropout=0"]),
    "snapshot": ("sdpo", ["parallel.mode=fsdp", "teacher=snapshot", "teacher.every=2", "steps=3"]),
    "snapshot-of-adapters": ("sdpo", ["parallel.mode=fsdp", "model.lora.rank=4", "teacher=snapshot", "teacher.every=1"]),
    "adapter-to-start-from": ("rosd", ["parallel.mode=fsdp", f"model.lora.path={ADAPTER}", "teacher=frozen"]),
    "two-teacher-models-and-refined-weights": (
        "sdpo",
        ["parallel.mode=fsdp", "teacher=trust_region", "localizer=top_divergence"],
    ),
    "checkpointed-activations": ("opsd", ["parallel.mode=fsdp", "model.gradient_checkpointing=true"]),
    "one-problem-for-two": ("opsd", ["parallel.mode=fsdp", "problems_per_step=1"]),
    "one-problem-for-two-ddp": ("opsd", ["parallel.mode=ddp", "problems_per_step=1"]),
    "advantages": ("grpo", ["parallel.mode=ddp", "group_size=4"]),  # of two, all may be right or all wrong
    "sampled-reflections": ("rosd", ["parallel.mode=ddp", "reflector.temperature=1.0"]),
    "prefetch-ddp": ("sdpo", ["parallel.mode=ddp", "sampling.prefetch=1", "steps=3"]),
    "prefetch-fsdp": ("rosd", ["parallel.mode=fsdp", "sampling.prefetch=1", "steps=3"]),
}
#: What another case shows too, apart from the mode, the recipe or how activations are checkpointed.
SLOW = (
    "another-problems-solution",
    "snapshot",
    "checkpointed-activations",
    "one-problem-for-two-ddp",
    "sampled-reflections",
    "prefetch-ddp",
)
QUICK = tuple(name for name in CASES if name not in SLOW)


def job(name):
    recipe, changes = CASES[name]
    return {"recipe": recipe, "changes": [*SHORT, *changes], "name": name}


def alone_job(name):
    """Return the same job for one process; cases that differ in `parallel` only have the same."""
    recipe, changes = CASES[name]
    changes = [change for change in changes if not change.startswith("parallel.")]
    return {"recipe": recipe, "changes": [*SHORT, *changes], "name": "-".join([recipe, *changes]).replace("=", "-")}


@pytest.fixture(scope="module")
def with_adapter(tmp_path_factory):
    """Return a function that lets a job start from an adapter that plain peft wrote, where its case does."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules=["q_proj", "up_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_path()), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    model.save_pretrained(folder)
    return lambda job: {**job, "changes": [change.replace(ADAPTER, str(folder)) for change in job["changes"]]}


@pytest.fixture(scope="module")
def together(launch, with_adapter, tmp_path_factory):
    """Return the folder of a case's run in two processes; all quick cases are launched at once, as are all slow ones."""
    folders = {}

    def run(name):
        names = SLOW if name in SLOW else QUICK
        if names not in folders:
            folders[names] = tmp_path_factory.mktemp("together")
            launched = launch(folders[names], *(with_adapter(job(name)) for name in names))
            assert launched.code == 0, launched.cause
        return folders[names] / name

    return run


@pytest.fixture(scope="module")
def apart(alone, with_adapter, tmp_path_factory):
    """Return the run of a case in one process; each is made once."""
    out = tmp_path_factory.mktemp("apart")

    def run(name):
        job = alone_job(name)
        if not (out / job["name"]).exists():
            alone(out, with_adapter(job))
        return out / job["name"]

    return run


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_two_processes_reproduce_the_run_of_one(name, together, apart):
    one, two = Finished(apart(name)), Finished(together(name))
    expected, steps = one.numbers(), two.numbers()
    assert len(steps) == len(expected) >= 2 and any(step["train/weighted_tokens"] for step in steps)
    for before, after in zip(expected, steps, strict=True):
        assert after == pytest.approx(before, rel=1e-4, abs=1e-5)
    if EVALUATED in CASES[name][1]:
        assert len(one.lines("evaluations.jsonl")) == 2
        assert numbers_in(two.lines("evaluations.jsonl")) == pytest.approx(numbers_in(one.lines("evaluations.jsonl")), rel=1e-5)
    weights = one.weights()
    assert two.weights().keys() == weights.keys()
    for tensor_name, tensor in two.weights().items():
        torch.testing.assert_close(tensor, weights[tensor_name], rtol=0, atol=2e-5, msg=lambda m, n=tensor_name: f"{n}: {m}")


@pytest.mark.parametrize("name", ["rosd-fsdp", "ema-teacher", "adapters"])
def test_one_process_reads_the_whole_tensors_of_a_sharded_checkpoint(name, together, apart):
    one, two = (load_checkpoint(list_checkpoints(run / "checkpoints")[-1]) for run in (apart(name), together(name)))
    for part in ("student", "optimizer", "teacher"):
        assert two.tensors[part].keys() == one.tensors[part].keys()
        for key, value in one.tensors[part].items():
            torch.testing.assert_close(two.tensors[part][key], value, rtol=0, atol=2e-5)


def test_a_sharded_checkpoint_exports_the_model_of_the_run(together, tmp_path):
    run = together("adapters")
    export_checkpoint(load_recipe(str(run / "recipe.yaml"), registry=PluginManager().registry), run, tmp_path / "model")
    exported, written = load_file(tmp_path / "model/model.safetensors"), Finished(run).weights()
    assert exported.keys() == written.keys()
    assert all(exported[key].equal(value) for key, value in written.items())


def test_each_process_writes_its_own_shards(together):
    """Nothing is gathered: each of two writes about half. Fixed by the shapes, as only whole tensors go to one of them."""
    sizes = {}
    for file in (list_checkpoints(together("rosd-fsdp") / "checkpoints")[-1] / "shards").iterdir():
        rank = file.name.split("-")[1]
        sizes[rank] = sizes.get(rank, 0) + file.stat().st_size
    assert sorted(sizes) == ["00001", "00002"] and max(sizes.values()) < 1.2 * min(sizes.values())


def damaged(name, change):
    def apply(folder):
        file = sorted((folder / "shards").iterdir())[0]
        change(file)
        return file

    return pytest.param(apply, id=name)


@pytest.mark.parametrize(
    "damage",
    [
        damaged("flipped", lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))),
        damaged("missing", Path.unlink),
        damaged("linked", lambda file: file.symlink_to(file.rename(file.with_suffix(".elsewhere")))),
    ],
)
def test_a_damaged_shard_is_named(damage, together, tmp_path):
    folder = shutil.copytree(list_checkpoints(together("rosd-fsdp") / "checkpoints")[-1], tmp_path / "step-000002")
    file = damage(folder)
    with pytest.raises(RunError, match=re.escape(f"{file}: the checkpoint is damaged: ")):
        load_checkpoint(folder)


def test_a_file_that_is_not_of_the_checkpoint_is_refused_among_shards(together, tmp_path):
    """torch would read it: a copy that a synchronisation left would compete with the shards."""
    folder = shutil.copytree(list_checkpoints(together("rosd-fsdp") / "checkpoints")[-1], tmp_path / "step-000002")
    file = sorted((folder / "shards").iterdir())[0]
    shutil.copy(file, file.with_name("copy.safetensors"))
    with pytest.raises(RunError, match=re.escape(f"{folder / 'shards'}: the checkpoint is damaged: it holds copy.safetensors")):
        load_checkpoint(folder)


def test_only_the_main_rank_calls_hooks(together):
    steps = {name: 3 if "steps=3" in changes else 2 for name, (_, changes) in CASES.items()}
    expected = [f"{name} {step}" for name in QUICK for step in range(1, steps[name] + 1)]
    out = together(QUICK[0]).parent
    assert (out / "rank-0").read_text().splitlines() == expected
    assert not (out / "rank-1").exists()


def test_fsdp_prefetch_order_does_not_depend_on_what_a_rank_generated(launch, apart, tmp_path):
    """Also with a torch that cannot reset its recorded order: it hung when one rank had nothing to generate."""
    launched = launch(tmp_path, {**job("one-problem-for-two"), "old_torch": True})
    assert launched.code == 0, launched.cause
    one, two = Finished(apart("one-problem-for-two")), Finished(tmp_path / "one-problem-for-two")
    assert two.numbers()[-1]["train/loss"] == pytest.approx(one.numbers()[-1]["train/loss"], rel=1e-4)
