"""Model, tokenizer and chat template are compared when a model is loaded."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.errors import RunError
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from rosd_kit.types import GenerateRequest, Sampling
from tests.model.tiny_models import CHATML, make_model, save, tokenizer


def load(folder):
    return Student.load(ModelSettings(path=str(folder), device="cpu"), keep_initial=False)


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def saved(folder, tokens, **changes):
    make_model("qwen3", **changes).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("value", ["x", -1, [2, "y"], 99999, True])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_an_end_id_that_is_no_id_is_an_error_that_names_it(file, value, tmp_path):
    folder = save(tmp_path / "m")
    edit(folder / file, eos_token_id=value)
    with pytest.raises(RunError, match=r"(?s)model\.path.*eos_token_id"):
        load(folder)


def test_every_end_id_of_tokenizer_config_and_generation_config_ends_a_response(tmp_path):
    folder = save(tmp_path / "m")
    edit(folder / "config.json", eos_token_id=5)
    edit(folder / "generation_config.json", eos_token_id=[7, 8])
    assert load(folder).end_ids == {2, 5, 7, 8}


def test_the_token_that_the_template_ends_a_turn_with_ends_a_response_and_is_noted(tmp_path):
    tokens = copy.deepcopy(tokenizer())
    tokens.eos_token = "<s>"
    student = load(saved(tmp_path / "m", tokens, eos_token_id=1))
    assert student.end_ids == {1, 2}
    [note] = [note for note in student.notes() if "ends a turn" in note]
    assert "'<|im_end|>'" in note and "'<s>'" in note
    assert not [note for note in load(save(tmp_path / "same")).notes() if "ends a turn" in note]


def test_a_turn_end_that_is_no_token_is_noted(tmp_path):
    student = load(save(tmp_path / "m", template=CHATML.replace("<|im_end|>", "<|stop|>")))
    assert student.end_ids == {2}
    assert any("'<|stop|>', which is no single token" in note for note in student.notes())


def test_a_token_without_a_row_is_an_error_if_prompts_may_hold_it_and_a_note_otherwise(tmp_path):
    tokens = copy.deepcopy(tokenizer())
    size = len(tokens)
    tokens.add_tokens(["<extra>"], special_tokens=True)
    student = load(saved(tmp_path / "unused", tokens, vocab_size=size))
    assert "1 special tokens have no row" in student.notes()[0] and "'<extra>'" in student.notes()[0]
    assert max(student.prompt_ids([{"role": "user", "content": "an <extra> text"}])) < size
    tokens.chat_template = CHATML.replace("'<|im_start|>' + m", "'<|im_start|><extra>' + m")
    with pytest.raises(RunError, match=rf"model\.path.*'<extra>' \({size}\).*resize"):
        load(saved(tmp_path / "written", tokens, vocab_size=size))


def test_a_padding_token_without_a_row_is_replaced(tmp_path):
    tokens = copy.deepcopy(tokenizer())
    size = len(tokens)
    tokens.add_special_tokens({"pad_token": "<padding>"})
    assert load(saved(tmp_path / "m", tokens, vocab_size=size)).pad_id == tokens.eos_token_id


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_without_a_token_are_never_sampled_and_count_in_the_log_probs(temperature, tmp_path):
    folder = save(tmp_path / "m", vocab_size=len(tokenizer()) + 400, tie_word_embeddings=False)
    student = load(folder)
    with torch.no_grad():
        student.model.get_output_embeddings().weight[len(tokenizer()) :] *= 3
    engine = TransformersEngine(TransformersEngine.Config())
    engine.start(student)
    prompt = student.prompt_ids([{"role": "user", "content": "What is 3 + 4 ?"}])
    sampling = Sampling(temperature=temperature, max_new_tokens=12)
    completions = engine.generate([GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed) for seed in range(8)])
    assert all(token < len(tokenizer()) for completion in completions for token in completion.token_ids)
    first = completions[0]
    logits = student.model(torch.tensor([prompt])).logits[0, -1]
    assert first.logprobs[0] == pytest.approx(float(logits.log_softmax(-1)[first.token_ids[0]]), abs=1e-4)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ '<|im_start|>user\nhello<|im_end|>' }}", "ignores the user's message"),
        (CHATML + "{{ ['one', 'two'] | random }}", "differently each time"),
    ],
)
def test_a_template_that_ignores_the_user_or_answers_at_random_is_refused(template, fault, tmp_path):
    with pytest.raises(RunError, match=fault):
        load(save(tmp_path / "m", template=template))


def test_an_exported_model_is_loaded_with_the_same_ends(tmp_path):
    tokens = copy.deepcopy(tokenizer())
    tokens.eos_token = "<s>"
    student = load(saved(tmp_path / "m", tokens, eos_token_id=1))
    student.export(tmp_path / "out")
    assert load(tmp_path / "out").end_ids == student.end_ids
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.eos_token_id == 1
