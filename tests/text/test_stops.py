"""Stop strings: found in whatever tokens they come, control tokens included."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rosd_kit.text.stops import completes_stop


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with a token per byte, two longer tokens and a control token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id for id, token in enumerate([*alphabet, "##", "#Q"])}
    inner = Tokenizer(models.BPE(vocabulary, [("#", "#"), ("#", "Q")]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")


def ids_of(tokenizer, *tokens: str) -> list[int]:
    return [id for token in tokens for id in tokenizer(token, add_special_tokens=False)["input_ids"]]


def first_end(tokenizer, ids, *stops: str) -> int | None:
    return next((n for n in range(1, len(ids) + 1) if completes_stop(tokenizer, ids[:n], stops)), None)


def test_a_stop_string_across_tokens_is_complete_with_its_last_one(tokenizer):
    ids = [*ids_of(tokenizer, "abc"), *ids_of(tokenizer, "##"), *ids_of(tokenizer, "#Q"), *ids_of(tokenizer, "rest")]
    assert [tokenizer.decode([id]) for id in ids] == ["a", "b", "c", "##", "#Q", "r", "e", "s", "t"]
    assert first_end(tokenizer, ids, "###") == 5
    assert first_end(tokenizer, ids, "c##") == 4
    assert first_end(tokenizer, ids, "Qr") == 6
    assert first_end(tokenizer, ids, "zzz", "es") == 8
    assert first_end(tokenizer, ids, "####") is None
    assert first_end(tokenizer, ids) is None


def test_half_a_character_is_no_stop_string(tokenizer):
    ids = ids_of(tokenizer, "x終。")
    assert len(ids) == 7
    assert first_end(tokenizer, ids, "終") == 4
    assert first_end(tokenizer, ids, "終。") == 7


def test_control_tokens_count_as_they_are_spelt(tokenizer):
    ids = [*ids_of(tokenizer, "ab"), tokenizer.eos_token_id]
    assert first_end(tokenizer, ids, "<|im_end|>") == 3
    assert first_end(tokenizer, ids, "b<|") == 3


def test_a_long_response_is_read_at_its_end_only(tokenizer):
    ids = ids_of(tokenizer, "##Q" + "x" * 500)
    assert not completes_stop(tokenizer, ids, ["##Q"])
    assert completes_stop(tokenizer, [*ids, *ids_of(tokenizer, "##Q")], ["##Q"])
