"""Builds a tiny real student: the laboratory's architecture and tokenizer with random weights.

What builds it imports transformers, which takes seconds, so it is imported when a student is: most suites need none.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

from rosd_kit.settings import LoraSettings, ModelSettings

if TYPE_CHECKING:
    from rosd_kit.model.student import Student


def tiny_student(*, keep_initial: bool = True, lora: bool = False, seed: int = 0) -> Student:
    """Return a new student on the CPU with 0.7 million random parameters, which the caller may change.

    Its tokenizer knows the laboratory's words, the numbers 0 to 99 and little else. `lora` needs peft.
    """
    return copy.deepcopy(_loaded(keep_initial, lora, seed))


@cache
def _loaded(keep_initial: bool, lora: bool, seed: int) -> Student:
    from rosd_kit.model.micro.model import BLANK
    from rosd_kit.model.student import Student

    settings = ModelSettings(path=BLANK, device="cpu", lora=LoraSettings(rank=2) if lora else None)
    return Student.load(settings, keep_initial=keep_initial, seed=seed)
