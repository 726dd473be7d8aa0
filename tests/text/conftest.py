"""Tokenizers of three kinds: byte-level BPE, whole words, and characters with byte fallback."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rosd_kit.model.micro.tokenizer import build_tokenizer

END = "<|end|>"
SAMPLE = ["the answer is 42, so x = 7. the other", "naïve café – déjà vu", "日本語 テキスト", "🙂🙃 👩‍👩‍👧 e\u0301"]
KINDS = ("byte_level", "words", "byte_fallback", "byte_fallback_stripped")


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    if kind == "words":
        return build_tokenizer()
    core = _byte_level() if kind == "byte_level" else _byte_fallback(strip=kind.endswith("stripped"))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, clean_up_tokenization_spaces=False)


def _byte_level() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=[END], show_progress=False)
    core.train_from_iterator(SAMPLE, trainer)
    return core


def _byte_fallback(*, strip: bool) -> Tokenizer:
    """Build one in the style of SentencePiece: `▁` for a space, `<0x..>` for a byte of a character without a token."""
    pieces = [END, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz0123456789=.,é日"]
    merges = [("▁", "a"), ("t", "h"), ("th", "e"), ("▁", "the"), ("i", "s")]
    vocab = {piece: i for i, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if strip else "never", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    return core
