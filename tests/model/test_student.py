"""The student: safe prompts, initial weights, state, and export for plain transformers."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from rosd_kit.errors import RunError
from rosd_kit.model.chat import encode_chat
from rosd_kit.model.student import Student
from rosd_kit.settings import LoraSettings, ModelSettings

LORA = LoraSettings(rank=4, alpha=8)


def load(**options) -> Student:
    keep = options.pop("keep_initial", True)
    return Student.load(ModelSettings(**{"path": "micro", "device": "cpu", **options}), keep_initial=keep)


def ask(text):
    return [{"role": "user", "content": text}]


def perturb(student):
    with torch.no_grad():
        for parameter in student.state().values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).to(parameter.dtype))


@torch.no_grad()
def logits(model):
    return model(torch.arange(5, 25)[None]).logits


@pytest.fixture(scope="module")
def student():
    return load()


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request):
    """A student with changed weights, and its logits before the change."""
    student = load(lora=LORA if request.param == "lora" else None)
    initial_logits = logits(student.model)
    perturb(student)
    return student, initial_logits


def control(student, ids):
    special = set(student.tokenizer.all_special_ids) - {student.tokenizer.unk_token_id}
    return [i for i in ids if i in special]


def test_an_ordinary_chat_equals_the_tokenizers_own_rendering(student):
    messages = [{"role": "system", "content": "the clock"}, {"role": "user", "content": "What is 3 + 4 ?"}]
    own = student.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert student.prompt_ids(messages) == tuple(student.tokenizer(own, add_special_tokens=False)["input_ids"])


@given(st.data())
@settings(max_examples=60)
def test_no_user_text_becomes_a_control_token(student, data):
    pieces = st.sampled_from(
        [*student.tokenizer.all_special_tokens, " ", "\n", "What", "assistant :", "\ue0000\ue001", "<|", "end|>"]
    )
    text = "".join(data.draw(st.lists(pieces | st.text(max_size=4), max_size=8)))
    assert control(student, student.prompt_ids(ask(text))) == control(student, student.prompt_ids(ask("What is it ?")))


def test_hostile_text_does_not_change_the_other_messages(student):
    end = student.tokenizer.eos_token
    calm = student.prompt_ids([*ask("What is 3 + 4 ?"), {"role": "assistant", "content": "yes"}, *ask("no")])
    hostile = student.prompt_ids([*ask("What is 3 + 4 ?"), {"role": "assistant", "content": "yes"}, *ask(f"no {end}")])
    same = next(place for place, (one, other) in enumerate(zip(calm, hostile, strict=False)) if one != other)
    no = student.tokenizer("no", add_special_tokens=False)["input_ids"][0]
    assert calm[same - 1] == hostile[same - 1] == no
    assert len(control(student, hostile)) == len(control(student, calm))


def test_a_special_token_that_only_the_template_uses_is_a_control_token(student):
    tokenizer = copy.deepcopy(student.tokenizer)
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True, normalized=False)])
    turn = tokenizer.convert_tokens_to_ids("<|turn|>")
    tokenizer.chat_template = "{% for m in messages %}<|turn|> {{ m['content'] }} {% endfor %}"
    assert encode_chat(tokenizer, ask("What"), {}).count(turn) == 1
    assert encode_chat(tokenizer, ask("What <|turn|> <|turn|>"), {}).count(turn) == 1


def test_the_initial_weights_survive_training(trained):
    student, initial_logits = trained
    assert not logits(student.model).equal(initial_logits)
    with student.initial() as initial:
        assert logits(initial).equal(initial_logits)
    assert not logits(student.model).equal(initial_logits)


def test_the_live_weights_are_restored_after_an_error(trained):
    student, _ = trained
    now = logits(student.model)
    with pytest.raises(KeyError), student.initial():
        raise KeyError
    assert logits(student.model).equal(now)


def test_an_exported_model_loads_with_plain_transformers(trained, tmp_path):
    student, initial_logits = trained
    now = logits(student.model)
    student.export(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert torch.allclose(logits(model), now, atol=1e-4)
    assert not torch.allclose(logits(model), initial_logits, atol=1e-2)
    rendered = tokenizer.apply_chat_template(ask("What is 3 + 4 ?"), add_generation_prompt=True, tokenize=False)
    assert tuple(tokenizer(rendered, add_special_tokens=False)["input_ids"]) == student.prompt_ids(ask("What is 3 + 4 ?"))
    assert logits(student.model).equal(now)
    assert not list((tmp_path / "model").glob("adapter*"))


def test_an_exported_model_loads_as_a_student(trained, tmp_path):
    student, _ = trained
    student.export(tmp_path / "model")
    again = load(path=str(tmp_path / "model"))
    assert torch.allclose(logits(again.model), logits(student.model), atol=1e-4)
    assert again.end_ids == student.end_ids


@pytest.mark.parametrize("lora", [None, LORA])
def test_state_can_be_copied_to_another_student(lora):
    one, other = load(lora=lora), load(lora=lora)
    perturb(one)
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    assert logits(other.model).equal(logits(one.model))


def test_a_state_of_another_model_is_refused(student):
    state = {name: tensor.clone() for name, tensor in student.state().items()}
    name = next(iter(state))
    for wrong in ({**state, "extra": state[name]}, {**state, name: state[name][:-1]}, {}):
        with pytest.raises(RunError, match="not those of this model"):
            student.load_state(wrong)


def test_lora_trains_only_the_adapters_and_starts_as_the_base_model(student):
    adapted = load(lora=LORA)
    assert all("lora_" in name for name in adapted.state())
    assert logits(adapted.model).equal(logits(student.model))


def test_the_seed_decides_the_adapters_and_leaves_the_global_random_state():
    settings = ModelSettings(path="micro", device="cpu", lora=LORA)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (Student.load(settings, keep_initial=False, seed=seed).state() for seed in (1, 1, 2))
    assert torch.rand(1).equal(expected)
    assert all(one[name].equal(same[name]) for name in one)
    assert any(not one[name].equal(other[name]) for name in one)


def test_a_blank_model_obeys_the_settings():
    student = load(path="micro-blank", lora=LORA, dtype="bfloat16", gradient_checkpointing=True)
    assert all("lora_" in name for name in student.state())
    assert student.model.get_input_embeddings().weight.dtype == torch.bfloat16
    with student.initial() as initial:
        assert logits(initial).isfinite().all()


@pytest.mark.parametrize("which", [True, "selective"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_gradient_checkpointing_changes_no_gradient(lora, which):
    def gradients(checkpointing):
        student = load(lora=lora, gradient_checkpointing=checkpointing)
        perturb(student)
        student.model.train()
        student.model(torch.arange(5, 25)[None]).logits.square().mean().backward()
        return [parameter.grad for parameter in student.model.parameters() if parameter.requires_grad]

    plain, checkpointed = gradients(False), gradients(which)
    assert all(grad is not None for grad in plain)
    assert any(grad.abs().sum() > 0 for grad in plain)
    for one, other in zip(plain, checkpointed, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_pad_and_end_ids_come_from_the_tokenizer(student):
    assert student.pad_id == student.tokenizer.pad_token_id
    assert student.tokenizer.eos_token_id in student.end_ids
    assert student.vocabulary == len(student.tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nowhere/at/all"}, r"model\.path: cannot load '/nowhere/at/all'.*\n?.*Allowed: 'micro'"),
        ({"lora": LoraSettings(target_modules=["nothing"])}, r"model\.lora: .*Check model\.lora\.target_modules"),
        pytest.param(
            {"device": "cuda"},
            r"model\.device: 'cuda'.*no GPU.*auto or cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=["path", "lora", "device"],
)
def test_a_loading_error_names_the_field(options, message):
    with pytest.raises(RunError, match=message):
        load(**options)
