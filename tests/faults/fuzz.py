"""Fuzzes the four readers of outside text: recipes, tags, spans and quotes.

    python -m tests.faults.fuzz                       # 100,000 cases of each target
    python -m tests.faults.fuzz quotes --cases 5000 --first 17
    python -m tests.faults.fuzz quotes --first 17 --cases 1 --show

A case is generated from its number, so the number is enough to repeat it. For each target, `seeds.json` lists the numbers of
cases that once failed and of the first case with each outcome; test_fuzz.py tries them and a few thousand more.
"""

from __future__ import annotations

import argparse
import random
import string
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from rapidfuzz import fuzz as ratios

from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import load_recipe, to_yaml
from rosd_kit.recipe.shipped import SHIPPED
from rosd_kit.text.folding import fold, undress
from rosd_kit.text.quotes import _ELISION, _LIST_NUMBER, find_quote
from rosd_kit.text.sentences import sentence_start
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.tags import read_tag
from rosd_kit.text.thinking import strip_thinking
from tests.text.conftest import KINDS, tokenizer_of
from tests.text.test_spans import byte_level_truth, check_laws, plain

STRANGE = (
    "\u200b", "\u202e", "\u2066", "\u0000", "\ufffd", "\ufeff", "e\u0301", "ﬁ", "ß", "İ", "½", "\u2028",
    "\U0001f469\u200d\U0001f469", "日本", "\r\n", "\t", "\x1b[31m", "'", '"', "“", "–", "\\,", "~", "</s>", "<|end|>",
    "{problem}", "{{", "$", "٣", "<", ">", "/", "  ",
)  # fmt: skip
WORDS = (
    "the",
    "error",
    "is",
    "x",
    "=",
    "2",
    "25",
    "Step",
    "3",
    ":",
    ".",
    "so",
    "Answer",
    "\n",
    ",",
    "therefore",
    r"\frac{1}{2}",
    "STRASSE",
)


@dataclass(frozen=True)
class Target:
    """Generates and checks the cases of one reader; `check` returns the outcome, and raises if a law is broken."""

    make: Callable[[random.Random], Any]
    check: Callable[[Any], str]


def prose(rng: random.Random, max_words: int) -> str:
    """Return words, unusual characters and noise."""
    fragments = []
    for _ in range(rng.randrange(max_words + 1)):
        kind = rng.random()
        if kind < 0.7:
            fragments.append(rng.choice(WORDS) + " ")
        elif kind < 0.9:
            fragments.append(rng.choice(STRANGE))
        else:
            fragments.append(
                "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(rng.randrange(1, 5)))
            )
    return "".join(fragments)


def mutate(rng: random.Random, text: str, times: int) -> str:
    """Return the text with small random changes: deletions, repetitions, reversals, other characters, case or spacing."""
    for _ in range(times):
        a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        b = min(b, a + rng.choice((1, 1, 2, 5, 20)))
        span = text[a:b]
        changed = rng.choice(
            (
                "",
                span + span,
                span[::-1],
                span.swapcase(),
                span.replace(" ", "  "),
                rng.choice(STRANGE),
                span + rng.choice(string.printable),
            )
        )
        text = text[:a] + changed + text[b:]
    return text


def make_quote(rng: random.Random) -> tuple[str, str, str]:
    text = prose(rng, 40) * rng.choice((1, 1, 1, 2))
    a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    quote = text[a : min(b, a + 60)] if rng.random() < 0.8 else prose(rng, 6)
    return text, mutate(rng, quote, rng.choice((0, 0, 1, 2, 6))), rng.choice(("", "Step 3 is wrong", prose(rng, 4)))


def _words(text: str) -> str:
    """Return the letters and digits of a text without markup."""
    return "".join(filter(str.isalnum, undress(text).text))


def check_quote(case: tuple[str, str, str]) -> str:
    text, quote, hint = case
    match = find_quote(text, quote, hint=hint)
    matched = text[match.start : match.end] if match.start >= 0 else None
    assert (match.outcome == "missing") == (matched is None) == (match.occurrences == 0)
    if quote.strip() and quote.strip() in text:
        assert match.outcome == "exact", "an exact quote was not found"
    if match.outcome == "exact":
        assert matched == quote.strip()
        assert 1 <= match.occurrences <= text.count(quote.strip()[0])
    elif match.outcome == "normalised":
        parts = [part for part in _ELISION.split(quote) if _words(part)] or [quote]
        first, last = _words(_LIST_NUMBER.sub("", parts[0], count=1)), _words(parts[-1])
        assert first in _words(matched) and last in _words(matched), "the match differs from the quote"
    elif match.outcome == "fuzzy":
        assert 0 <= match.start < match.end <= len(text)
        assert max(ratios.partial_ratio(form(quote).text, form(matched).text) for form in (fold, undress)) >= 55.0
    if matched is not None:
        assert 0 <= sentence_start(text, match.start) <= match.start
    return match.outcome if match.occurrences < 2 else f"{match.outcome}, several"


TAG_FRAGMENTS = (
    "<error_quote>", "</error_quote>", "<ERROR-QUOTE>", "</ error quote >", "<error_quote", "error_quote>",
    "<explanation>", "</explanation>", "<think>", "</think>", "< thinking >", "</thinking>", "<error_quote/>",
    "&lt;error_quote&gt;", "<<error_quote>>",
)  # fmt: skip


def make_tags(rng: random.Random) -> str:
    fragments = [rng.choice(TAG_FRAGMENTS) if rng.random() < 0.5 else prose(rng, 5) for _ in range(rng.randrange(14))]
    return mutate(rng, "".join(fragments), rng.choice((0, 0, 1, 3)))


def check_tags(text: str) -> str:
    visible = strip_thinking(text)
    assert visible in text and strip_thinking(visible) == visible
    tag = read_tag(visible, "error_quote")
    assert tag.status in ("ok", "missing", "unclosed", "empty")
    assert (tag.text is None) == (tag.status != "ok")
    if tag.text is not None:
        assert tag.text and tag.text == tag.text.strip() and tag.text in visible
        assert read_tag(tag.text, "error_quote").status in ("missing",), "the text of a tag contains a tag"
    last = read_tag(f"{visible} <error_quote>the quote</error_quote>", "error_quote")
    assert last.text == "the quote", "the last pair of tags does not win"
    return tag.status


def make_spans(rng: random.Random) -> tuple[str, list[int], int, int]:
    kind = rng.choice(KINDS)
    tokenizer = tokenizer_of(kind)
    if rng.random() < 0.5:
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(50))]
    else:
        ids = list(tokenizer(prose(rng, 12), add_special_tokens=False)["input_ids"])
        ids = ids[rng.choice((0, 0, 1, 3)) : len(ids) - rng.choice((0, 0, 1, 2))]
        for _ in range(rng.choice((0, 0, 1, 3))):
            ids.insert(rng.randrange(len(ids) + 1), rng.choice((tokenizer.eos_token_id, rng.randrange(len(tokenizer)))))
    return kind, ids, rng.randrange(200), rng.randrange(200)


def first_overlapping(spans: Sequence[tuple[int, int]], start: int, end: int) -> int | None:
    return next((i for i, (a, b) in enumerate(spans) if max(a, start) < min(b, end)), None)


def check_spans(case: tuple[str, list[int], int, int]) -> str:
    kind, ids, first, second = case
    check_laws(kind, ids)
    text, spans = decode_with_spans(tokenizer_of(kind), ids)
    start, end = sorted((first % (len(text) + 1), second % (len(text) + 1)))
    if kind == "byte_level" and plain(kind, ids) == ids:
        true_text, true_spans = byte_level_truth(ids)
        assert text == true_text
        assert first_overlapping(spans, start, end) == first_overlapping(true_spans, start, end)
    return f"{kind}, {'valid' if chr(0xFFFD) not in text else 'invalid'} text"


VALUES = (
    "3", "0.5", "abc", "null", "true", "-1", "1e400", ".nan", "1_000", "0x10", "2001-01-01", "[]", "{}", "[1, {a: 2}]",
    "full", "rosd", "'\\u0000'", "!!int 3", "!!python/name:os.system", "&a [1]", "*a", "${steps}", "${oc.env:HOME}",
    "${", "<<", "'../../x'", "9" * 400, "a" * 300, "{name: oracle}", "{name: full, x: 1}",
)  # fmt: skip


@cache
def shipped() -> tuple[str, ...]:
    """Return the texts of the built-in recipes."""
    return tuple(path.read_text() for path in sorted(SHIPPED.rglob("*.yaml")) if "profiles" not in path.parts)


@cache
def fields() -> tuple[str, ...]:
    """Return every dotted field of some resolved built-in recipes."""
    paths: list[str] = []

    def walk(value: Any, path: str) -> None:
        paths.append(path)
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}".lstrip("."))

    for name in ("rosd", "sdpo", "grpo"):
        walk(yaml.safe_load(to_yaml(load_recipe(name, registry=registry()))), "")
    return tuple(dict.fromkeys(filter(None, paths)))


@cache
def registry() -> Registry:
    return PluginManager(selection="builtin").registry


def make_recipe(rng: random.Random) -> tuple[str, list[str]]:
    text = rng.choice(shipped()) if rng.random() < 0.7 else "extends: rosd\n"
    if rng.random() < 0.4:
        text += f"\n{rng.choice(fields()).split('.')[0]}: {rng.choice(VALUES)}\n"
    text = mutate(rng, text, rng.choice((0, 0, 0, 1, 4)))
    changes = []
    for _ in range(rng.choice((0, 0, 1, 3))):
        change = f"{rng.choice(fields())}={rng.choice(VALUES)}"
        changes.append(mutate(rng, change, 1) if rng.random() < 0.2 else change)
    return text, changes


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rosd-kit-fuzz-"))


def check_recipe(case: tuple[str, list[str]]) -> str:
    text, changes = case
    file = folder() / "fuzzed.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        recipe = load_recipe(file, changes, registry=registry())
    except RecipeError as error:
        assert str(error).strip() and len(str(error)) < 20_000, "the error message is empty or too long"
        return "refused"
    finally:
        assert [path.name for path in folder().iterdir()] == ["fuzzed.yaml"], "loading a recipe created a file"
    file.write_text(to_yaml(recipe))
    assert load_recipe(file, registry=registry()) == recipe, "the printed recipe differs when it is loaded again"
    return "a recipe"


TARGETS = {
    "recipes": Target(make_recipe, check_recipe),
    "tags": Target(make_tags, check_tags),
    "spans": Target(make_spans, check_spans),
    "quotes": Target(make_quote, check_quote),
}


def attempt(name: str, number: int) -> str:
    """Generate and check one case; return its outcome."""
    target = TARGETS[name]
    return target.check(target.make(random.Random(f"{name} {number}")))


def campaign(name: str, first: int, cases: int) -> tuple[Counter[str], list[tuple[int, str]], dict[str, int]]:
    """Try cases; return the count of each outcome, the failures, and the first number with each outcome."""
    outcomes: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    firsts: dict[str, int] = {}
    for number in range(first, first + cases):
        try:
            outcome = attempt(name, number)
        except Exception as error:
            failed.append((number, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"))
            continue
        outcomes[outcome] += 1
        firsts.setdefault(outcome, number)
    return outcomes, failed, firsts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), choices=[*TARGETS, []])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the cases")
    arguments = parser.parse_args()
    any_failed = False
    for name in arguments.targets:
        if arguments.show:
            for number in range(arguments.first, arguments.first + arguments.cases):
                print(number, repr(TARGETS[name].make(random.Random(f"{name} {number}"))))
        start = time.monotonic()
        outcomes, failed, firsts = campaign(name, arguments.first, arguments.cases)
        counts = ", ".join(f"{outcome} {count:,}" for outcome, count in outcomes.most_common())
        print(f"{name}: {arguments.cases:,} cases in {time.monotonic() - start:.0f} s, {len(failed)} failed; {counts}")
        print(f"  first of each outcome: {firsts}")
        for number, reason in failed[:20]:
            print(f"  case {number}: {reason}")
        any_failed = any_failed or bool(failed)
    raise SystemExit(1 if any_failed else 0)


if __name__ == "__main__":
    main()
