"""A small Sphinx extension: pages of the repository outside docs/ that the manual links to become pages of the manual.

READMEs of packages and reports of benchmarks are next to what they describe, with links for readers of the repository. For
the build they are mirrored under docs/beyond/ (which git ignores), and links to them, or to folders with a README.md, lead
there. Links to other files are left alone: they become downloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

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
    """Return every page outside docs/ that the manual links to, directly or through another one."""
    reached: list[Path] = []
    unread = [page for page in sorted(DOCS.rglob("*.md")) if not page.is_relative_to(MIRROR)]
    while unread:
        new = [file for file in dict.fromkeys(links(unread.pop(0))) if file not in reached]
        reached += new
        unread += new
    return sorted(reached)


def mirror_of(page: Path) -> Path:
    """Return the copy of a page outside docs/ in the mirror: plugins/x/README.md is beyond/plugins/x.md."""
    path = page.relative_to(ROOT)
    if path.name == "README.md":
        path = path.parent.with_suffix(".md") if path.parent.name else Path("readme.md")
    return MIRROR / path


def with_moved_links(text: str, page: Path, copy: Path) -> str:
    """Return the text of a page with its links as they must be in its copy; a page of docs/ is its own copy."""

    def moved_link(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if (file := target_of(link, page)) is not None:
            return f"{before}{relpath(mirror_of(file), copy.parent)}{after}"
        if copy == page or "://" in link:
            return match.group()
        return f"{before}{relpath((page.parent / link).resolve(), copy.parent)}{after}"

    return _LINK.sub(moved_link, text)


def write_mirror(app: Sphinx, config: Config) -> None:
    """Bring docs/beyond/ up to date, and remove pages that are no longer linked."""
    copies = {mirror_of(page): page for page in pages()}
    for stale in set(MIRROR.rglob("*.md")) - copies.keys():
        stale.unlink()
    for copy, page in copies.items():
        text = with_moved_links(page.read_text(), page, copy)
        if any(other.is_relative_to(copy.with_suffix("")) for other in copies):
            text += f"\n:::{{toctree}}\n:hidden:\n:glob:\n\n{copy.stem}/*\n:::\n"
        if not (copy.is_file() and copy.read_text() == text):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)


def move_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point the links of a page of docs/ at mirrored pages."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md" and not page.is_relative_to(MIRROR):
        source[0] = with_moved_links(source[0], page, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", write_mirror)
    app.connect("source-read", move_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
