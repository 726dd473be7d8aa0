"""Character ranges of sampled tokens, checked against the known byte handling of each kind of tokenizer."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from rosd_kit.text.spans import decode_with_spans
from tests.text.conftest import END, KINDS, tokenizer_of

TEXTS = ["", "the answer is 42", "naïve café", "e\u0301e\u0301", "日本語 and 🙂🙃", "👩‍👩‍👧", "a\n\n b", "x = 7. x = 7."]


def ids_of(kind: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(tokenizer_of(kind)) - 1), max_size=70)


def plain(kind: str, ids: list[int]) -> list[int]:
    special = tokenizer_of(kind).all_special_ids
    return [i for i in ids if i not in special]


def check_laws(kind: str, ids: list[int]) -> None:
    """Check that the text is the tokenizer's own, spans are ordered without gaps, and special tokens are empty."""
    tokenizer = tokenizer_of(kind)
    text, spans = decode_with_spans(tokenizer, ids)
    assert text == tokenizer.decode(plain(kind, ids), clean_up_tokenization_spaces=False)
    assert len(spans) == len(ids)
    covered = 0
    for token, (start, end) in zip(ids, spans, strict=True):
        assert 0 <= start <= end <= len(text)
        assert start <= covered
        covered = max(covered, end)
        assert token not in tokenizer.all_special_ids or start == end
    assert covered == len(text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.data())
def test_any_sampled_ids_have_ordered_spans_without_gaps(kind, data):
    check_laws(kind, data.draw(ids_of(kind)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80)
@given(text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=40)), cut=st.integers(0, 12))
def test_truncated_encoded_text_has_ordered_spans_without_gaps(kind, text, cut):
    ids = tokenizer_of(kind)(text, add_special_tokens=False)["input_ids"]
    check_laws(kind, ids[: max(0, len(ids) - cut)])


def byte_level_truth(ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return text and spans by counting bytes: a token covers every character that contains one of its bytes."""
    tokenizer = tokenizer_of("byte_level")
    to_byte = _byte_of_letter()
    token_bytes = [bytes(to_byte[letter] for letter in tokenizer.convert_ids_to_tokens(i)) for i in ids]
    owners = _characters(b"".join(token_bytes))
    spans, at = [], 0
    for one_token in token_bytes:
        covered = [i for i, (a, b) in enumerate(owners) if a < at + len(one_token) and b > at]
        spans.append((covered[0], covered[-1] + 1))
        at += len(one_token)
    return b"".join(token_bytes).decode("utf-8", "replace"), spans


def _characters(data: bytes) -> list[tuple[int, int]]:
    """Return the byte range of each character that `data` decodes to; invalid bytes count as one character."""
    broken: list[tuple[int, int]] = []

    def record(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        broken.append((error.start, error.end))
        return "\ufffd", error.end

    codecs.register_error("record", record)
    text = data.decode("utf-8", "record")
    ranges, at, ends = [], 0, dict(broken)
    for character in text:
        end = ends.pop(at) if character == "\ufffd" and at in ends else at + len(character.encode())
        ranges.append((at, end))
        at = end
    return ranges


def _byte_of_letter() -> dict[str, int]:
    """Invert the byte-level alphabet: printable Latin-1 letters map to themselves, the other bytes to letters from 256 on."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in kept]
    letters = {chr(byte): byte for byte in kept} | {chr(256 + i): byte for i, byte in enumerate(rest)}
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


@settings(max_examples=300)
@given(ids=ids_of("byte_level").map(lambda ids: plain("byte_level", ids)))
def test_every_character_starts_at_the_token_with_its_first_byte_even_if_invalid(ids):
    text, spans = decode_with_spans(tokenizer_of("byte_level"), ids)
    true_text, true_spans = byte_level_truth(ids)
    assert text == true_text
    for at in range(len(text)):
        first, true_first = (next(i for i, (a, b) in enumerate(of) if a <= at < b) for of in (spans, true_spans))
        assert first == true_first


@given(text=st.text(max_size=60))
@example("👩‍👩‍👧 e\u0301 日本語")
def test_byte_level_spans_of_encoded_unicode_are_exact(text):
    ids = plain("byte_level", tokenizer_of("byte_level")(text, add_special_tokens=False)["input_ids"])
    assert decode_with_spans(tokenizer_of("byte_level"), ids) == byte_level_truth(ids)


@given(words=st.lists(st.sampled_from(["17", "+", "8", "=", "25", ".", "Answer", ":"]), max_size=60))
def test_word_level_spans_are_the_words_and_the_space_before_them(words):
    tokenizer = tokenizer_of("words")
    text, spans = decode_with_spans(tokenizer, tokenizer.convert_tokens_to_ids(words))
    assert text == " ".join(words)
    assert [text[a:b].strip() for a, b in spans] == words


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_empty_spans(kind):
    tokenizer = tokenizer_of(kind)
    end = tokenizer.eos_token_id
    ids = tokenizer("a = 7", add_special_tokens=False)["input_ids"]
    text, spans = decode_with_spans(tokenizer, [end, *ids, end, *ids[:1], end])
    assert END not in text
    assert [spans[0], spans[-1]] == [(0, 0), (len(text), len(text))]
    assert spans[len(ids) + 1][0] == spans[len(ids) + 1][1]


def test_all_tokens_of_a_character_cover_it():
    tokenizer = tokenizer_of("byte_fallback")
    ids = tokenizer("a🙂b", add_special_tokens=False)["input_ids"]
    text, spans = decode_with_spans(tokenizer, ids)
    assert text == "a🙂b"
    assert spans == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]


def test_decoding_in_windows_gives_the_same_spans():
    tokenizer = tokenizer_of("byte_level")
    ids = tokenizer("naïve 🙂 日本語 the answer is 42. " * 40, add_special_tokens=False)["input_ids"]
    assert decode_with_spans(tokenizer, ids) == byte_level_truth(ids)
