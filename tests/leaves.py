"""Values of JSON as numbers by path, for comparisons up to rounding."""

from __future__ import annotations


def numbers_in(value, path=""):
    """Return every number in a JSON value by its path; other leaves are part of the path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        number = isinstance(value, (int, float))
        return {path: float(value)} if number else {f"{path}={value}": 0.0}
    return {name: number for key, inner in pairs for name, number in numbers_in(inner, f"{path}.{key}").items()}
