"""A small Sphinx extension: pages of the repository outside docs/ that the manual links to become pages of the manual.

READMEs of packages and reports of benchmarks lie beside what they describe, and link as a reader of the repository expects. For
the build they are mirrored under docs/beyond/ (which git ignores), and links to them, or to folders with a README.md, lead
there. Links to other files are left alone: they become downloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
MIRROR = DOCS / "beyond"
_LINK = re.compile(r"(!?\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def target_of(link: str, page: Path) -> Path | None:
    """Return the Markdown page outside docs/ that a link on a page leads to, or None for any other link."""
    if "://" in link or link.startswith("mailto:"):
        return None
    file = (page.parent / link).resolve()
    if file.is_dir():
        file /= "README.md"
    outside = file.suffix == ".md" and file.is_relative_to(ROOT) and not file.is_relative_to(DOCS)
    return file if outside and file.is_file() else None


def links(page: Path) -> Iterator[Path]:
    """Yield the pages outside docs/ that a page links to."""
    for _, link, _ in _LINK.findall(page.read_text()):
        if (file := target_of(link, page)) is not None:
            yield file


def pages() -> list[Path]:
    """Return every page outside docs/ that the manual links to, also by way of another."""
    found: list[Path] = []
    waiting = [page for page in sorted(DOCS.rglob("*.md")) if not page.is_relative_to(MIRROR)]
    while waiting:
        new = [file for file in dict.fromkeys(links(waiting.pop(0))) if file not in found]
        found += new
        waiting += new
    return sorted(found)


def mirror_of(page: Path) -> Path:
    """Return where a page outside docs/ lies in the mirror: plugins/x/README.md is beyond/plugins/x.md."""
    place = page.relative_to(ROOT)
    if place.name == "README.md":
        place = place.parent.with_suffix(".md") if place.parent.name else Path("readme.md")
    return MIRROR / place


def moved(text: str, page: Path, place: Path) -> str:
    """Return the text of a page with its links as they must be where it is built; a page of docs/ stays where it is."""

    def moved_link(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if (file := target_of(link, page)) is not None:
            return f"{before}{relpath(mirror_of(file), place.parent)}{after}"
        if place == page or "://" in link:
            return match.group()
        return f"{before}{relpath((page.parent / link).resolve(), place.parent)}{after}"

    return _LINK.sub(moved_link, text)


def write_mirror(app: Any, config: Any) -> None:
    """Bring docs/beyond/ up to date; what is not linked any more goes."""
    wanted = {mirror_of(page): page for page in pages()}
    for stale in set(MIRROR.rglob("*.md")) - wanted.keys():
        stale.unlink()
    for place, page in wanted.items():
        text = moved(page.read_text(), page, place)
        if any(other.is_relative_to(place.with_suffix("")) for other in wanted):
            text += f"\n:::{{toctree}}\n:hidden:\n:glob:\n\n{place.stem}/*\n:::\n"
        if not (place.is_file() and place.read_text() == text):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)


def move_links(app: Any, docname: str, source: list[str]) -> None:
    """Turn the links of a page of docs/ to pages that were mirrored."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md" and not page.is_relative_to(MIRROR):
        source[0] = moved(source[0], page, page)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", write_mirror)
    app.connect("source-read", move_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
