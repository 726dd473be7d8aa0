"""Reads JSON that an untrusted process wrote, which may be anything."""

from __future__ import annotations

import json

#: Deepest nesting of lists and objects in an answer.
MAX_DEPTH = 100


def read_answer(content: bytes) -> object:
    """Return the value of a JSON text. Raises `ValueError` if it is not JSON, or nested deeper than `MAX_DEPTH`."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return value
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
