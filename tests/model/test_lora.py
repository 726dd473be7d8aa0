"""LoRA: adapters on tied weights, starting from an adapter, and exporting one; plain peft and transformers must agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.lora import base_of_adapter, resolve_adapter
from rosd_kit.model.student import Student
from rosd_kit.run.evaluate import _model
from rosd_kit.serving.launch import _model_path
from rosd_kit.settings import LoraSettings, ModelSettings, OptimizerSettings
from rosd_kit.training.optimizer import Optimizer
from tests.model.architectures import ARCHITECTURES
from tests.model.test_layouts import make
from tests.model.tiny_models import save, tokenizer

IDS = torch.arange(5, 25)[None]
TARGETS = {
    "all-linear": "all-linear",
    "head": ["lm_head"],
    "embeddings": ["embed_tokens"],
    "both": ["lm_head", "embed_tokens", "q_proj"],
}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request, tmp_path) -> Path:
    return save(tmp_path / "base", "qwen3", tie_word_embeddings=request.param)


def load(folder: Path, *, keep_initial: bool = True, **lora) -> Student:
    settings = ModelSettings(path=str(folder), device="cpu", lora=LoraSettings(**lora))
    return Student.load(settings, keep_initial=keep_initial)


def change(student: Student, seed: int = 1) -> None:
    """Stand in for training: move every trained tensor."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in student.state().values():
            weight.add_(torch.randn_like(weight) * 0.3)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def assert_equal(model, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("targets", TARGETS)
def test_an_exported_model_equals_the_trained_one(folder, targets, tmp_path):
    base = logits(AutoModelForCausalLM.from_pretrained(folder))
    student = load(folder, rank=4, target_modules=TARGETS[targets])
    student.check_layout("auto")
    assert student.vocabulary == len(tokenizer())
    change(student)
    trained = logits(student.model)
    assert float((trained - base).abs().max()) > 0.1
    student.export(tmp_path / "exported")
    assert_equal(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"), trained)
    assert_equal(student.model, trained)
    with student.initial() as model:
        assert_equal(model, base)
    with student.model.disable_adapter():
        assert_equal(student.model, base)


@pytest.mark.parametrize("targets", TARGETS)
def test_the_weights_for_an_engine_equal_the_trained_ones(folder, targets, tmp_path):
    """An engine loads the architecture from the folder that servers get, and then the weights by name."""
    student = load(folder, rank=4, target_modules=TARGETS[targets])
    change(student)
    engine = AutoModelForCausalLM.from_pretrained(_model_path(student, tmp_path))
    for which, expected in (("live", logits(student.model)), ("initial", logits(AutoModelForCausalLM.from_pretrained(folder)))):
        report = engine.load_state_dict(dict(student.full_weights(which)), strict=False)
        assert not report.unexpected_keys
        assert set(report.missing_keys) <= {"lm_head.weight"}
        assert_equal(engine, expected)


@pytest.mark.parametrize("targets", TARGETS)
def test_plain_peft_loads_an_exported_adapter(folder, targets, tmp_path):
    student = load(folder, rank=4, alpha=12, target_modules=TARGETS[targets], export="adapter")
    change(student)
    student.exporter(writes=True)(tmp_path / "adapter")
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names and "model.safetensors" not in names
    assert all(".lora_" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["lora_alpha"] == 12 and config["base_model_name_or_path"] == str(folder)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    assert_equal(loaded, logits(student.model))


@pytest.fixture
def adapter(tmp_path) -> Path:
    """An adapter that plain peft wrote, for the untied base model."""
    return write_adapter(tmp_path)


def write_adapter(tmp_path: Path, **options) -> Path:
    base = save(tmp_path / "base", "qwen3", tie_word_embeddings=False)
    config = LoraConfig(
        **{"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM", **options}
    )
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    model.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"rank_pattern": {"up_proj": 2}}, {"lora_dropout": 0.25}])
def test_a_student_starts_from_the_adapter_that_peft_wrote(tmp_path, options):
    adapter = write_adapter(tmp_path, **options)
    student = load(tmp_path / "base", path=str(adapter))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), adapter).eval()
    start = logits(plain)
    assert_equal(student.model, start)
    assert student.settings.lora == LoraSettings(
        path=str(adapter), rank=3, alpha=7, dropout=options.get("lora_dropout", 0.0), target_modules=["q_proj", "up_proj"]
    )
    change(student)
    assert float((logits(student.model) - start).abs().max()) > 0.1
    with student.initial() as model:
        assert_equal(model, start)
    engine = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    engine.load_state_dict(dict(student.full_weights("initial")))
    assert_equal(engine, start)
    with student.model.disable_adapter():
        assert_equal(student.model, logits(AutoModelForCausalLM.from_pretrained(tmp_path / "base")))
    student.export(tmp_path / "exported")
    assert_equal(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"), logits(student.model))


def test_an_exported_adapter_is_a_start_for_the_next_run(adapter, tmp_path):
    student = load(tmp_path / "base", path=str(adapter), export="adapter")
    change(student)
    student.exporter(writes=True)(tmp_path / "next")
    assert_equal(load(tmp_path / "base", path=str(tmp_path / "next")).model, logits(student.model))


@pytest.mark.parametrize(
    ("field", "value"), [("rank", 16), ("alpha", 32), ("target_modules", ["q_proj"]), ("target_modules", "all-linear")]
)
def test_settings_that_contradict_the_adapter_are_refused(adapter, field, value):
    with pytest.raises(
        RunError, match=rf"model\.lora\.{field}: .* contradicts the adapter in .* Leave model\.lora\.{field} out"
    ):
        resolve_adapter(LoraSettings(path=str(adapter), **{field: value}))
    equal = {"rank": 3, "alpha": 7, "target_modules": ["up_proj", "q_proj"]}
    assert resolve_adapter(LoraSettings(path=str(adapter), **equal)).rank == 3
    assert resolve_adapter(resolve_adapter(LoraSettings(path=str(adapter)))).alpha == 7


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
    ],
)
def test_adapters_that_are_more_than_a_sum_are_refused(tmp_path, options, named):
    adapter = write_adapter(tmp_path, **options)
    with pytest.raises(RunError, match=rf"model\.lora\.path: the adapter in .* has {named}. Only plain LoRA"):
        load(tmp_path / "base", path=str(adapter))


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path):
    wider = save(tmp_path / "wider", "qwen3", tie_word_embeddings=False, hidden_size=48)
    deeper = save(tmp_path / "deeper", "qwen3", tie_word_embeddings=False, num_hidden_layers=3)
    for other in (wider, deeper):
        with pytest.raises(RunError, match=r"model\.lora\.path: the adapter in .* does not fit the model: .* Set model\.path"):
            load(other, path=str(adapter))


def test_folders_without_an_adapter_are_refused(adapter, tmp_path):
    with pytest.raises(RunError, match=r"model\.lora\.path: .* holds no adapter_config\.json. Give a folder"):
        load(tmp_path / "base", path=str(tmp_path / "base"))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.lora\.path: .* holds no adapter_model\.safetensors"):
        load(tmp_path / "base", path=str(adapter))


def test_an_adapter_of_a_random_model_cannot_be_exported():
    with pytest.raises(RunError, match=r"model\.lora\.export: an adapter needs a saved base model"):
        Student.load(ModelSettings(path="micro-blank", device="cpu", lora=LoraSettings(export="adapter")), keep_initial=False)


def test_layers_that_share_weights_are_refused_as_targets(tmp_path):
    known = {architecture.kind: architecture for architecture in ARCHITECTURES}
    make("zamba", known["zamba"].config).save_pretrained(tmp_path / "zamba")
    tokenizer().save_pretrained(tmp_path / "zamba")
    with pytest.raises(
        RunError, match=r"model\.lora\.target_modules: '.*' shares its weight with '.*', .* Name target modules"
    ):
        load(tmp_path / "zamba", rank=4)


def test_a_run_starts_from_an_adapter_and_exports_one(adapter, train, tmp_path):
    options = (f"model.lora.path={adapter}", "model.lora.export=adapter", "teacher=frozen")
    metrics, run = train(tmp_path / "base", *options)
    assert metrics["train/applied"] == 1.0 and metrics["train/engine_mismatch"] < 1e-4
    recipe = (run / "recipe.yaml").read_text()
    assert "rank: 3" in recipe and "alpha: 7" in recipe
    start, trained = (load_file(path / "adapter_model.safetensors") for path in (adapter, run / "model"))
    assert start.keys() == trained.keys() and any(not torch.equal(start[name], trained[name]) for name in start)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), run / "model")


def test_an_adapters_folder_names_its_base_model(adapter, recipe, tmp_path):
    assert base_of_adapter(str(adapter)) == str(tmp_path / "base")
    assert base_of_adapter(str(tmp_path / "base")) is None
    assert base_of_adapter("some/hub-name") is None
    student = _model(recipe("micro"), str(adapter))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), adapter).eval()
    assert_equal(student.model, logits(plain))


@pytest.mark.parametrize("started", [False, True], ids=["new", "from-an-adapter"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_adapters_have_the_models_dtype_and_bfloat16_ones_add_up_small_updates(tmp_path, dtype, started):
    folder = save(tmp_path / "base", "qwen3")
    lora = LoraSettings(rank=2, target_modules="all-linear")
    if started:
        base = AutoModelForCausalLM.from_pretrained(folder)
        get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
        lora = LoraSettings(path=str(tmp_path / "adapter"))
    student = Student.load(ModelSettings(path=str(folder), device="cpu", dtype=dtype, lora=lora), keep_initial=False)
    weight = next(weight for name, weight in student.model.named_parameters() if "lora_A" in name)
    assert weight.dtype == student.model.dtype == getattr(torch, dtype)
    before = weight.detach().float().clone()
    optimizer = Optimizer(student.model, OptimizerSettings(lr=1e-5, weight_decay=0, warmup_steps=0), steps=300)
    for _ in range(300):
        weight.grad = torch.ones_like(weight)
        optimizer.step(0.0)
    torch.testing.assert_close(weight.detach().float(), before - 300e-5, atol=2e-3, rtol=0)
    assert weight.detach().float().sub(before).abs().min() > 1e-3
