"""Refuses folders of runs and sweeps through which a run would write elsewhere, or wait for ever.

A folder from elsewhere may hold links and pipes. Knows nothing of what is in files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from rosd_kit.errors import RunError
from rosd_kit.recipe.trust_store import is_in_trusted_folder


def check_entries(folder: Path, below: Mapping[str, int]) -> None:
    """Raise `RunError` for an entry of a folder that leads out of it, or that is neither a file nor a folder.

    `below` says how many levels of which of its folders count too; what trackers and plugins keep in others does not. Links may
    lead out of a folder that the user trusts.
    """
    real = folder.resolve()
    leads_out = []
    for entry in _entries(real, below):
        if not entry.is_symlink():
            if not stat.S_ISREG(mode := entry.lstat().st_mode) and not stat.S_ISDIR(mode):
                raise RunError(f"{entry}: is a pipe, a socket or a device, and a run would wait for it. Remove it")
        elif not _target(entry).is_relative_to(real):
            leads_out.append(entry)
    if leads_out and not is_in_trusted_folder(real):
        raise RunError(
            f"{leads_out[0]}: is a link to {os.readlink(leads_out[0])}, which is not in the folder; a run would write there. "
            f"Put what it leads to in its place. If the link is your own, trust the folder: rosd-kit trust {real}"
        )


def _entries(folder: Path, below: Mapping[str, int]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        yield entry
        levels = below.get(entry.name, 0)
        if levels and entry.is_dir() and not entry.is_symlink():
            inner = {each.name: levels - 1 for each in entry.iterdir()} if levels > 1 else {}
            yield from _entries(entry, inner)


def _target(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return Path(link.anchor)
