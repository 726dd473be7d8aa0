"""Which plugin files a recipe was resolved with: `plugins` in its file, with a fingerprint of each.

A resolved recipe needs the components of these files to run again. Does not load them: the command line does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.errors import RecipeError, shortened
from rosd_kit.plugins.fingerprint import fingerprint
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.model import Recipe
from rosd_kit.recipe.shipped import find, label
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.recipe.sources import read_chain
from rosd_kit.recipe.trust_store import is_in_trusted_folder, is_known_run

FIELD = "plugins"


@dataclass(frozen=True)
class PluginFile:
    """A plugin file and its fingerprint when the recipe was written; `recipe` is the file that names it, None if it ships."""

    file: Path
    fingerprint: str
    recipe: SourceFile | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the user trusts the recipe that names it: a run that was started here, or a trusted folder."""
        if self.recipe is None:
            return False
        return is_in_trusted_folder(self.recipe.path) or is_known_run(self.recipe.path, self.recipe.digest)


def plugin_files_of(recipe: Recipe, registry: Registry) -> dict[str, str]:
    """Return the plugin files that bring components of this recipe, each with its fingerprint."""
    origins = (registry.entry(kind, choice.name).origin for kind, choice in recipe.choices())
    files = dict.fromkeys(os.path.abspath(origin.file) for origin in origins if origin.distribution == "file")
    return {file: fingerprint(file) for file in files}


def take_plugins(content: dict[str, object], where: str) -> dict[str, str]:
    """Remove `plugins` from a recipe's content and return its fingerprints by file. Raises `RecipeError` for another form."""
    written = content.pop(FIELD, {})
    if not isinstance(written, Mapping) or not all(isinstance(one, str) for pair in written.items() for one in pair):
        raise RecipeError(f"{FIELD}: {shortened(written)} (from {where}) must map plugin files to their fingerprints")
    return dict(written)


def recorded_plugins(what: str) -> list[PluginFile]:
    """Return the plugin files that a recipe file and those that it extends were written with."""
    found = []
    for path, content, file in read_chain(find(what)):
        for name, digest in take_plugins(content, label(path)).items():
            found.append(PluginFile((path.parent / name).resolve(), digest, file))
    return found


def to_load(recorded: PluginFile, given: Mapping[str, Path]) -> tuple[Path | None, str | None]:
    """Return the file to load besides those that the user gave, by name, and what to warn of.

    Raises `RecipeError` if the file is missing or has changed and the user gave none of its name, or if the recipe is not
    trusted to have it loaded.
    """
    file, remedy = recorded.file, f"--plugin {recorded.file}"
    if file.name in given:
        now = fingerprint(str(given[file.name]))
        changed = (
            f"plugin file {given[file.name]} is not as it was when the recipe was written: {recorded.fingerprint} -> {now}"
        )
        return None, None if now == recorded.fingerprint else changed
    if not file.is_file():
        raise RecipeError(
            f"{FIELD}: the recipe was written with the plugin file {str(file)!r}, which is missing. If it has moved, add "
            f"--plugin with its new path, ending in {file.name}"
        )
    now = fingerprint(str(file))
    if now != recorded.fingerprint:
        raise RecipeError(
            f"{FIELD}: {str(file)!r} has changed since the recipe was written ({recorded.fingerprint} -> {now}). To run it "
            f"with the file as it is now, add {remedy}"
        )
    if not recorded.is_trusted:
        raise RecipeError(
            f"{FIELD}: the recipe asks to load the plugin file {str(file)!r}, which runs code. Read it, then add {remedy}"
        )
    return file, None
