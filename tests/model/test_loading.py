"""What can be loaded, what is refused and with which message; pinned revisions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.model.loading import find_model, pin_revision
from rosd_kit.model.student import Student
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe
from rosd_kit.settings import LoraSettings, ModelSettings
from tests.model.tiny_models import make_model, save

CODE = """
from transformers import Qwen3Config, Qwen3ForCausalLM
open({mark!r}, "w").close()
class OwnConfig(Qwen3Config):
    model_type = "own_kind"
class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
"""


def load(path, **options) -> Student:
    keep = options.pop("keep_initial", False)
    return Student.load(ModelSettings(path=str(path), device="cpu", **options), keep_initial=keep)


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "model")


def pickled(folder: Path) -> Path:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_are_refused_unless_allowed(folder):
    whole = load(folder).fingerprint
    pickled(folder)
    with pytest.raises(RunError, match=r"pickled weights only \(pytorch_model.bin\).*model.pickle_weights=true"):
        load(folder)
    assert load(folder, pickle_weights=True).fingerprint == whole


def test_code_inside_a_pickle_does_not_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    pickled(folder)
    torch.save({"lm_head.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(RunError, match="cannot load"):
        load(folder, pickle_weights=True)
    assert not (tmp_path / "ran").exists()


def test_safetensors_are_preferred_to_pickles(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert load(folder, pickle_weights=True).fingerprint == load(folder).fingerprint


@pytest.fixture
def foreign(folder, tmp_path):
    """A model with its own Python code, which leaves a file when it runs."""
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_kind",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    return folder


def test_a_models_own_code_does_not_run_unless_allowed(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with pytest.raises(RunError, match=r"model type 'own_kind'.*model.trust_remote_code=true"):
        load(foreign)
    assert not (tmp_path / "ran").exists()
    student = load(foreign, trust_remote_code=True)
    assert (tmp_path / "ran").exists() and type(student.model).__name__ == "OwnForCausalLM"


def test_missing_weights_are_an_error(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        RunError, match=r"lack 1 tensors, which would start at random; the first is 'model.layers.1.mlp.up_proj.weight'"
    ):
        load(folder)


def test_damaged_weights_are_an_error(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"model\.path: cannot load"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/no/such/folder"}, "there is no such folder"),
        ({"path": "package:no_such_package"}, "no package 'no_such_package' is installed"),
        ({"path": "package:../x"}, r"no package '../x'"),
        ({"path": "micro", "revision": "main"}, "model.revision: 'main' was requested, but 'micro' is a folder"),
        ({"path": "micro", "gguf": "x.gguf"}, "model.gguf: 'micro' holds no 'x.gguf'"),
        ({"path": "package:json"}, "holds no config.json"),
    ],
)
def test_an_unusable_path_is_an_error_that_names_the_field(settings, message):
    with pytest.raises(RunError, match=message):
        find_model(ModelSettings(**settings))


def test_an_adapter_folder_is_refused_with_a_hint(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"It is a LoRA adapter: set model\.path to its base model and model\.lora\.path to this folder"
    ):
        load(tmp_path)


def test_attention_that_an_architecture_lacks_is_an_error(tmp_path):
    folder = save(tmp_path / "gemma", "gemma2")
    with pytest.raises(RunError, match=r"model.attention: 'sdpa' is not available .* Use model.attention=eager"):
        load(folder)


def on_hub(cache: Path, commit: str, **changes) -> None:
    """Put a model into the hub client's cache and point `main` at it."""
    repository = cache / "models--somebody--model"
    save(repository / "snapshots" / commit, **changes)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs/main").write_text(commit)


def test_a_run_resumes_with_the_commit_it_started_from(recipe, plugins, tmp_path, monkeypatch):
    """Even if the branch has moved to weights of another shape."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    where = {"plugins": plugins, "out": tmp_path / "runs", "display": Display()}
    on_hub(tmp_path / "hub", "a" * 40)
    run_recipe(recipe("somebody/model", "model.revision=main"), **where, name="one", resume=None)
    on_hub(tmp_path / "hub", "b" * 40, hidden_size=16)
    again = load_recipe(str(tmp_path / "runs/one/recipe.yaml"), ["steps=2"], registry=plugins.registry)
    run_recipe(again, **where, name=None, resume=tmp_path / "runs/one")
    run = tmp_path / "runs/one"
    assert f"revision: {'a' * 40}" in (run / "recipe.yaml").read_text()
    began = json.loads((run / "environment.json").read_text())
    assert began["resumed"][0]["model"] == began["model"]
    assert json.loads((run / "model/config.json").read_text())["hidden_size"] == 32
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_pinning_leaves_a_folder_unchanged(folder):
    settings = ModelSettings(path=str(folder))
    assert pin_revision(settings) == settings


def storages(*modules) -> int:
    """Return the bytes that some modules hold, counting each storage once."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def test_a_lora_student_keeps_no_second_copy_of_its_initial_weights(folder):
    bare = storages(load(folder).model)
    student = load(folder, lora=LoraSettings(rank=2, alpha=4), keep_initial=True)
    adapters = sum(p.nbytes for p in student.state().values())
    with student.initial() as initial:
        assert storages(student.model, initial) == bare + adapters
    assert adapters < bare / 2
    full = load(folder, keep_initial=True)
    with full.initial() as initial:
        assert storages(full.model, initial) > 1.99 * (bare - 1000)


def test_adapters_of_a_bfloat16_model_are_bfloat16(folder):
    student = load(folder, dtype="bfloat16", lora=LoraSettings(rank=2, alpha=4))
    assert {p.dtype for p in student.state().values()} == {torch.bfloat16}
    assert student.model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_frozen_weights_are_neither_trained_nor_duplicated(folder, train):
    frozen = ["model.embed_tokens.*", "model.layers.0.*"]
    student = load(folder, freeze=frozen, keep_initial=True)
    held = sum(p.nbytes for p in student.model.parameters())
    trained = sum(p.nbytes for p in student.state().values())
    with student.initial() as initial:
        assert storages(student.model, initial) <= held + trained + 4096
    assert not any(name.startswith(("model.embed_tokens", "model.layers.0")) for name in student.state())
    metrics, run = train(folder, f"model.freeze={json.dumps(frozen)}", "model.gradient_checkpointing=true")
    before, after = load_file(folder / "model.safetensors"), load_file(run / "model/model.safetensors")
    moved = {name for name in before if not before[name].equal(after[name])}
    assert metrics["train/applied"] == 1.0
    assert {name.split(".")[2] for name in moved if "layers" in name} == {"1"}
    assert "model.embed_tokens.weight" not in moved


def test_a_pattern_that_freezes_nothing_is_an_error(folder):
    with pytest.raises(RunError, match=r"model.freeze: no weight is called 'model.embed_token.weight'. Did you mean"):
        load(folder, freeze=["model.embed_token.weight"])


def test_freezing_under_lora_is_refused():
    with pytest.raises(ValueError, match=r"model\.lora\.target_modules"):
        ModelSettings(freeze=["*"], lora=LoraSettings())


def test_a_step_in_bfloat16_updates_the_float32_master_weights(folder, train):
    metrics, run = train(folder, "model.dtype=bfloat16", "optimizer.lr=1e-5")
    [checkpoint] = (run / "checkpoints").iterdir()
    state = load_file(checkpoint / "optimizer.safetensors")
    weights = load_file(checkpoint / "student.safetensors")
    for name, weight in weights.items():
        assert weight.dtype == torch.bfloat16 and state[f"{name}.master"].dtype == torch.float32
        assert state[f"{name}.master"].bfloat16().equal(weight)
    before = make_model("qwen3").to(torch.bfloat16).state_dict()
    gone = [float((state[f"{name}.master"] - before[name].float()).abs().max()) for name in weights]
    assert max(gone) == pytest.approx(1e-5, rel=0.2) and metrics["train/weight_change"] > 0
