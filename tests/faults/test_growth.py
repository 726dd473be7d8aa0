"""What reads model text takes time in proportion to it: eight times the text never takes the time of a quadratic reader.

A looping model writes one thing again and again, so the texts are repetitions. Work is measured as CPU time of this process at
n and 8 n characters: 8 times as much for a linear reader, 64 times for a quadratic one. Times too short to measure count as
`FLOOR`, and a reader that seems to fail is measured four times more. Short texts show what is quadratic in Python; what is so
in C, as a search for a substring in a loop, needs long ones, which take a minute.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from rosd_kit.components.verifiers.code import read_program, same_output
from rosd_kit.components.verifiers.exact import Exact
from rosd_kit.components.verifiers.math import Math
from rosd_kit.components.verifiers.mcq import MultipleChoice
from rosd_kit.components.verifiers.tool_use import read_calls
from rosd_kit.text.answers import bare_answer, tag_or_box
from rosd_kit.text.boxes import find_boxes, joined_boxes
from rosd_kit.text.folding import fold, undress
from rosd_kit.text.leaks import leaks
from rosd_kit.text.mathematics import brackets, clean_expression, decimal_comma, plain_signs, time_of_day, top_level_parts, unit
from rosd_kit.text.normal import normal_form
from rosd_kit.text.quotes import find_quote
from rosd_kit.text.sentences import sentence_start, sentence_starts
from rosd_kit.text.tags import read_tag
from rosd_kit.text.thinking import strip_thinking
from rosd_kit.types import Problem

SHORT, LONG, FACTOR, ALLOWED, FLOOR = 500, 1_500, 8, 24, 1e-3
PUMPS = (
    " ", "\n", " \n", "\t", "a", "a ", "ab, ", "A.", "A) ", "x=", "1", "1 ", "1,", "1.", "1/", "1:", "-",
    "- ", "--", ".", ". ", "...", ". . . ", "…", "。", "e.g. ", "Dr. ", "Fig. 1. ", "?", "!", ",", ";", ":",
    "*", "**", "* ", "#", "# ", ">", "> ", "<", "< ", "</", "<think", "<think>", "</think>",
    "<think></think>", "[THINK]", "◁think▷", "<|channel|>", "<answer>", "</answer>", "<answer", "<a ", "`",
    "``", "```", "``` ", "```python\n", "```\n", "{", "}", "{}", "(", ")", "()", "[", "]", "[1,", '{"a":',
    '"', '\\"', "'", "“", "$", "$$", "\\", "\\\\", "\\(", "\\[", "\\boxed{", "\\boxed ", "\\boxed{1} ",
    "\\boxed{1} and ", "\\frac{", "\\text{", "\\text{a", "\\sqrt", "\\,", "\\quad", "~", "^", "^{", "_", "|",
    "√", "√(", "½", "%", "°", "€", "or ", "and ", "answer is ", "Final answer: ", "**Answer:** ", "Action:",
    "Action: f\n", "Action Input: ", "<tool_call>", "<tool_call>{", '{"name": "f"', "e\u0301", "ﬁ", "٣",
    "\u200b", "日", "\u2028", "per ", "square ", "1.2", "1 000", "0.3", "1e5", "12:30 ", "a.m. ",
)  # fmt: skip
SUM = Problem(id="1", messages=({"role": "user", "content": "1 + 1 = ?"},), answer="2")
CHOICE = Problem(id="1", messages=({"role": "user", "content": "A: 1\nB: 2"},), answer="B")
EXACT, MCQ, MATH = Exact(Exact.Config()), MultipleChoice(MultipleChoice.Config()), Math(Math.Config())
READERS: dict[str, Callable[[str], object]] = {
    "quote in text": lambda text: find_quote(text, "a b c d"),
    "text as its quote": lambda text: find_quote(text[:1000] + " end " + text, text[:200] + " end"),
    "sentences": sentence_starts,
    "one sentence": lambda text: sentence_start(text, len(text) - 1),
    "thinking": strip_thinking,
    "tags": lambda text: read_tag(text, "answer"),
    "fold": fold,
    "undress": undress,
    "normal form": normal_form,
    "leaks": leaks,
    "bare answer": bare_answer,
    "tag or box": lambda text: tag_or_box(text, "answer"),
    "boxes": find_boxes,
    "joined boxes": joined_boxes,
    "tool calls": read_calls,
    "fences": read_program,
    "output": lambda text: same_output(text, text + "1"),
    "signs": plain_signs,
    "expression": clean_expression,
    "decimal comma": decimal_comma,
    "time of day": time_of_day,
    "brackets": brackets,
    "parts": top_level_parts,
    "unit": unit,
    "exact": lambda text: EXACT.verify(SUM, text),
    "mcq": lambda text: MCQ.verify(CHOICE, text),
    "math before the sandbox": MATH._readings,
}


#: What stands before and behind a repetition.
PLAIN, ENDED = ("", ""), ("", "!x")
FRAMES = {
    **dict.fromkeys(("quote in text", "text as its quote", "fold", "undress", "expression"), (PLAIN,)),
    "fences": (PLAIN, ("```", "x!\n```python\nprint(1)\n```")),
    "tool calls": (PLAIN, ("", "Action: f"), ("Action: f\nAction Input: {", "")),
    "tags": (PLAIN, ("<", "answer>"), ("<answer>", "")),
    "boxes": (PLAIN, ("\\boxed{", "}")),
    "thinking": (PLAIN, ("<think>", "</think>x")),
}


def seconds(reader: Callable[[str], object], text: str) -> float:
    gc.disable()  # a collection's time is that of all objects of the process
    try:
        began = time.process_time()
        reader(text)
        return max(FLOOR, time.process_time() - began)
    finally:
        gc.enable()


def grows_too_fast(reader: Callable[[str], object], make: Callable[[int], str], length: int = LONG) -> bool:
    short, long = make(length), make(length * FACTOR)
    for _ in range(5):
        taken = seconds(reader, long)
        if taken <= ALLOWED * FLOOR or taken <= ALLOWED * seconds(reader, short):
            return False
    return True


@pytest.mark.parametrize("length", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_work_grows_with_the_text(name, length):
    reader = READERS[name]
    bad = [
        (begin, pump, end)
        for pump in PUMPS
        for begin, end in FRAMES.get(name, (PLAIN, ENDED))
        if grows_too_fast(reader, lambda size, b=begin, p=pump, e=end: b + p * (size // len(p)) + e, length)
    ]
    assert not bad


@pytest.mark.parametrize(("power", "caught"), [(2, True), (1, False)])
def test_a_quadratic_reader_is_caught(monkeypatch, power, caught):
    """By a clock that the reader itself sets on."""
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def read(text: str) -> None:
        now[0] += (len(text) / 20_000) ** power

    assert grows_too_fast(read, lambda length: "a" * length) == caught
