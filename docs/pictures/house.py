"""Draws the rooms of the package on their floors: `python docs/pictures/house.py` writes house.svg.

The floors come from the contract `floors` in pyproject.toml, which import-linter checks; the imports come from the code. Only
the short purpose of each room stands here. `tests/docs/test_house.py` fails if the picture is out of date.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_name("house.svg")

PURPOSES: Mapping[str, str] = {
    "api": "train() and evaluate(), for notebooks and scripts",
    "cli": "the command rosd-kit",
    "report": "one HTML page per run",
    "sweep": "many runs, compared",
    "scaffold": "templates for new plugins",
    "testing": "laws and suites for components",
    "diagnose": "where a recipe's signal lies",
    "run": "the training loop and its folder",
    "memory": "memory estimates for doctor",
    "components": "the built-ins, a folder per slot",
    "pipeline": "from problems to training samples",
    "training": "from samples to new weights",
    "recipe": "from YAML to a checked recipe to components",
    "plugins": "finding, checking and registering plugins",
    "micro": "the laboratory's problems",
    "display": "progress and results on screen",
    "decoding": "text from a model in this process",
    "sglang": "SGLang: its routes, arguments, transfers",
    "serving": "inference servers: pool, transfers, checks",
    "model": "the student: loading, prompts, packing, prefix tree",
    "evaluation": "suites, metrics, intervals",
    "parallel": "ranks and sharding",
    "settings": "the core sections of a recipe",
    "data": "rows from files and from the hub",
    "faults": "checks on what components return",
    "text": "quotes, sentences, tags, prompt budgets",
    "contracts": "one base class per slot",
    "sandbox": "runs untrusted code",
    "types": "the values that stages pass on",
    "errors": "errors that users can act on",
    "files": "atomic writes, JSON lines, locks",
    "options": "options, and numbers that follow a schedule",
    "version": "versions of package and API",
    "deferred": "imports heavy packages late",
    "seeds": "seeds that stay the same",
    "renames": "old names, and what replaced them",
}

WIDTH, MARGIN, GAP, LABEL = 960, 16, 10, 26
LINE, PAD, CHARACTER = 16, 10, 6.4  # pixels: line height, padding of a box, mean width of a character

STYLE = """
svg { color-scheme: light dark; font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 12px }
.page { fill: #ffffff } .floor { fill: #eef1f5 } .room { fill: #ffffff; stroke: #b6c0cc }
text { fill: #24292f } .name { font-weight: 600; font-size: 14px } .uses, .number { fill: #57606a }
@media (prefers-color-scheme: dark) {
  .page { fill: #15181c } .floor { fill: #20252b } .room { fill: #2b313a; stroke: #4b5563 }
  text { fill: #e6e9ed } .uses, .number { fill: #a3adb8 }
}
"""


def floors() -> list[list[str]]:
    """Return the rooms of each floor, the highest floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "floors")
    return [[room.strip() for room in layer.split(":")] for layer in layers]


def imports() -> dict[str, set[str]]:
    """Return, for each room, the rooms that its modules import directly."""
    graph = grimp.build_graph("rosd_kit", cache_dir=None)
    rooms: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if "." in module and "." in imported:
                room, other = module.split(".")[1], imported.split(".")[1]
                rooms.setdefault(room, set())
                rooms[room] |= {other} - {room}
    return rooms


def nearest(rooms: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Return each room's imports without those that another of its imports brings along."""

    def reached(room: str) -> set[str]:
        direct = rooms.get(room, set())
        return direct.union(*(reached(other) for other in direct))

    return {room: sorted(direct.difference(*map(reached, direct))) for room, direct in rooms.items()}


def draw(levels: Sequence[Sequence[str]], uses: Mapping[str, Sequence[str]]) -> str:
    """Return the picture as SVG."""
    shapes, top = [], MARGIN
    for above, level in enumerate(levels):
        width = (WIDTH - 2 * MARGIN - LABEL - GAP * (len(level) + 1)) / len(level)
        texts = [_texts(room, uses.get(room, ()), int((width - 2 * PAD) / CHARACTER)) for room in level]
        height = LINE * max(map(len, texts)) + 2 * PAD
        shapes.append(_box("floor", MARGIN, top, WIDTH - 2 * MARGIN, height + 2 * GAP))
        shapes.append(_text("number", MARGIN + 8, top + GAP + PAD + 12, str(len(levels) - above)))
        for column, lines in enumerate(texts):
            left = MARGIN + LABEL + GAP + column * (width + GAP)
            shapes.append(_box("room", left, top + GAP, width, height))
            shapes += [
                _text(kind, left + PAD, top + GAP + PAD + 12 + LINE * row, line) for row, (kind, line) in enumerate(lines)
            ]
        top += height + 2 * GAP + 4
    size = f'width="{WIDTH}" height="{top + MARGIN - 4}" viewBox="0 0 {WIDTH} {top + MARGIN - 4}"'
    title = "<title>The rooms of rosd_kit. A room imports only from its own floor and from lower ones.</title>"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n{title}\n<style>{STYLE}</style>'
    return "\n".join([head, f'<rect class="page" width="{WIDTH}" height="{top + MARGIN - 4}" rx="8"/>', *shapes, "</svg>\n"])


def _texts(room: str, uses: Sequence[str], columns: int) -> list[tuple[str, str]]:
    """Return the lines in a room's box, each with its style."""
    purpose = textwrap.wrap(PURPOSES[room], columns)
    below = textwrap.wrap("→ " + ", ".join(uses), columns) if uses else []
    return [("name", room), *(("purpose", line) for line in purpose), *(("uses", line) for line in below)]


def _box(kind: str, left: float, top: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6"/>'


def _text(kind: str, left: float, top: float, text: str) -> str:
    return f'<text class="{kind}" x="{left:.0f}" y="{top:.0f}">{escape(text)}</text>'


def picture() -> str:
    """Return the picture of the package as it is now."""
    return draw(floors(), nearest(imports()))


if __name__ == "__main__":
    PICTURE.write_text(picture())
