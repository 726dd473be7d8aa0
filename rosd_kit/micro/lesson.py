"""A lesson of an embedded model: what its prompt holds, and the response to learn. It knows no prompt template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One training example: `target` is the response to learn, the other texts are the contents of the prompt."""

    kind: str
    target: str
    response: str = ""
    demonstration: str = ""
    idea: str = ""


def write_reflection(idea: str, quote: str | None = None) -> str:
    """Return a reflection in ROSD's format."""
    tagged_quote = f"<error_quote> {quote} </error_quote> " if quote is not None else ""
    return f"{tagged_quote}<explanation> {idea} </explanation>"
