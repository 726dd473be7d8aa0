"""`model.kernels`: the same numbers from other kernels, and refusals where there are none."""

from __future__ import annotations

import sys

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from rosd_kit.errors import RunError
from rosd_kit.model.kernels import _gated_forward, apply_kernels, use_liger
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16, "vocab_size": 50}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256))


def computed(model, length=40):
    """Return the last hidden states and the gradient of every weight."""
    device = next(model.parameters()).device
    ids = torch.arange(length, device=device)[None] % 50
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    hidden.float().square().mean().backward()
    gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {"hidden": hidden.detach().float().cpu(), **gradients}


@pytest.mark.slow  # the compiler takes half a minute
@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_compiled_norms_and_gates_compute_the_same(checkpointing):
    settings = ModelSettings(path="micro", device="cpu", gradient_checkpointing=checkpointing)
    plain = Student.load(settings, keep_initial=False)
    compiled = Student.load(settings.model_copy(update={"kernels": "compile"}), keep_initial=True)
    for student in (plain, compiled):
        student.enter_training()
    for length in (40, 33):  # one compilation serves all shapes
        expected, found = computed(plain.model, length), computed(compiled.model, length)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * value.abs().max().item())
    norms = {type(module).__name__ for module in compiled.model.modules() if module._compiled_call_impl is not None}
    assert norms == {"Qwen3RMSNorm"}
    assert compiled.model.model.layers[0].mlp.forward.__func__ is _gated_forward
    assert compiled.state().keys() == plain.state().keys()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernels", ["liger", "compile"])
def test_kernels_on_a_card_compute_the_same(model, kernels, monkeypatch):
    keep_rotary(monkeypatch)
    model = model.to("cuda", torch.bfloat16)
    expected = computed(model)
    apply_kernels(model, kernels)
    found = computed(model)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.05, atol=0.02 * value.abs().max().item())


def keep_rotary(monkeypatch):
    """Restore after the test what liger-kernel replaces for all models."""
    from transformers.models.qwen3 import modeling_qwen3

    for name in ("apply_rotary_pos_emb", "Qwen3RMSNorm", "Qwen3MLP"):
        monkeypatch.setattr(modeling_qwen3, name, getattr(modeling_qwen3, name))


def test_liger_replaces_norms_and_mlps_and_leaves_the_head(model, monkeypatch):
    pytest.importorskip("liger_kernel")
    keep_rotary(monkeypatch)
    whole, weights = model.forward, model.state_dict().keys()
    use_liger(model)
    layer = model.model.layers[0]
    for module in (model.model.norm, layer.input_layernorm, layer.self_attn.q_norm, layer.mlp):
        assert module.forward.__func__.__module__.startswith("liger_kernel.")
    assert model.forward == whole and model.state_dict().keys() == weights


def test_liger_is_refused_on_a_cpu(model):
    with pytest.raises(RunError, match=r"model\.kernels: 'liger' needs a GPU.*Use plain or compile"):
        apply_kernels(model, "liger")
    with pytest.raises(RunError, match=r"model\.kernels: 'liger' needs a GPU"):
        Student.load(ModelSettings(path="micro-blank", device="cpu", kernels="liger"), keep_initial=False)


def test_liger_is_refused_without_its_package(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", None)
    with pytest.raises(RunError, match=r"needs liger-kernel\. Install it: pip install 'rosd-kit\[liger\]'"):
        use_liger(model)


def test_an_architecture_that_liger_does_not_know_is_named(model):
    pytest.importorskip("liger_kernel")
    other = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    with pytest.raises(RunError, match=r"has none for 'gpt2' \(it knows .*qwen3.*\)"):
        use_liger(other)


def test_a_model_with_nothing_to_compile_is_refused():
    other = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(RunError, match=r"finds neither norms nor gated MLPs in Sequential"):
        apply_kernels(other, "compile")


def test_plain_changes_nothing(model):
    apply_kernels(model, "plain")
    assert all(module._compiled_call_impl is None for module in model.modules())
