"""Texts that a tokenizer cannot read are measured, and refused above the share that the recipe allows."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rosd_kit.errors import RunError
from rosd_kit.model.chat import Chat
from rosd_kit.model.micro.tokenizer import build_tokenizer
from rosd_kit.model.student import Student
from rosd_kit.model.unknown_tokens import check_readable, measure_unread
from rosd_kit.recipe import load_recipe
from rosd_kit.run.dry_run import rehearse
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Message, Problem


def byte_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes, which can read everything."""
    vocab = {char: id for id, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def test_words_outside_the_vocabulary_are_counted_with_their_frequency():
    unread = measure_unread(build_tokenizer(), ["1 + 2 = zebra", "zebra and xylophone", ""])
    assert (unread.tokens, unread.unknown, unread.words) == (8, 3, ("zebra", "xylophone"))
    assert unread.share == 3 / 8


def test_no_text_has_no_unknown_share():
    assert measure_unread(build_tokenizer(), ["", " \n"]).share == 0.0


def test_a_tokenizer_of_bytes_reads_everything_even_its_own_end_token():
    tokenizer = byte_tokenizer(unk_token="<|end|>", eos_token="<|end|>")
    assert measure_unread(tokenizer, ["Grüße 🌍 <|end|> write"]).unknown == 0


def test_a_word_that_the_tokenizer_drops_counts_as_unknown():
    core = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    unread = measure_unread(PreTrainedTokenizerFast(tokenizer_object=core), ["ab zzz"])
    assert (unread.tokens, unread.unknown, unread.words) == (3, 1, ("zzz",))


@pytest.mark.parametrize(("allowed", "refused"), [(0.1, True), (0.49, True), (0.5, False), (1.0, False)])
def test_the_recipe_says_how_much_may_be_unknown(allowed, refused):
    settings = ModelSettings(unknown_tokens=allowed)
    if not refused:
        check_readable(build_tokenizer(), settings, "the prompts", ["1 zebra"])
        return
    with pytest.raises(RunError, match=r"model\.unknown_tokens: 50% of the tokens in the prompts .*'zebra'.*--profile smol"):
        check_readable(build_tokenizer(), settings, "the prompts", ["1 zebra"])


def test_solutions_are_read_too():
    student = Student.load(ModelSettings(), keep_initial=False)
    known = Problem(id="a", messages=(Message(role="user", content="1 + 2"),), answer="3")
    student.check_readable([known], "the training problems")
    with pytest.raises(RunError, match="67% of the tokens in the solutions of the training problems"):
        student.check_readable([Problem(**{**vars(known), "solution": "Add them up"})], "the training problems")


def test_prompts_count_what_reflector_and_context_write():
    chat = Chat(build_tokenizer(), ModelSettings())
    chat.encode([Message(role="user", content="1 2 3")])
    assert chat.unread_prompts().unknown == 0
    other = chat.with_options({"brief": True})
    before = chat.unread_prompts().tokens
    other.encode([Message(role="user", content="You are a tutor")])
    unread = chat.unread_prompts()
    assert unread.unknown == len([word for word in ["You", "are", "a", "tutor"] if word not in build_tokenizer().vocab])
    assert unread.tokens > before


ROWS = '{"question": "Anna has 3 apples and buys 4 more.", "answer": "7"}\n'


def test_a_dry_run_refuses_rows_of_plain_english_with_the_laboratorys_model(plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(ROWS * 2)
    task = ["task={name: dataset, path: rows.jsonl, prompt: '{question}', answer: '{answer}', held_out: 0}", "verifier=exact"]
    recipe = load_recipe("grpo", task, registry=plugins.registry)
    with pytest.raises(RunError, match="in the prompts of the training problems are unknown to the tokenizer of 'micro'"):
        rehearse(recipe, plugins)


def test_a_reflectors_template_that_the_model_cannot_read_is_refused(plugins):
    templates = "reflector.wrong_template='Dear tutor please explain what went so badly wrong here {problem} {response}'"
    recipe = load_recipe("rosd", [templates, "problems_per_step=4", "evaluation.problems=1"], registry=plugins.registry)
    with pytest.raises(RunError, match="in the prompts of reflector and teacher are unknown"):
        rehearse(recipe.model_copy(update={"model": recipe.model.model_copy(update={"unknown_tokens": 0.01})}), plugins)
