"""Rows of real data sets, where their files are available."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rosd_kit.files import read_json_lines
from rosd_kit.types import Problem

DATA = Path(__file__).parents[3] / "shared/data"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a data file; skip the test if it is missing."""
    file = DATA / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file.name} is not available")
    return list(read_json_lines(file))


def asking(answer: str) -> Problem:
    """Return a problem with this answer."""
    return Problem(id="p", messages=({"role": "user", "content": "?"},), answer=answer)
