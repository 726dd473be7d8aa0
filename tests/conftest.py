"""The one option of the whole suite: `pytest --update-golden` writes the golden files anew."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


@pytest.fixture
def golden(request):
    """Compare a text with the golden file of this name, or write it with --update-golden."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert file.is_file(), f"{file.name} is missing; write it with: pytest --update-golden"
        assert text == file.read_text(), f"{file.name} has changed; if that is wanted: pytest --update-golden"

    return check
