"""What the user trusts, kept in the user's own folders: folders with recipes, and the runs that were started on this machine.

Trusted folders are in `$XDG_CONFIG_HOME/rosd-kit/trusted.json`, digests of the recipes of runs in
`$XDG_STATE_HOME/rosd-kit/runs`. Neither is read where another user could have written it. Knows no option.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from rosd_kit.errors import RecipeError
from rosd_kit.files import explain_write_errors, read_json_object, write_atomically
from rosd_kit.recipe.source_file import digest_of

#: How many recipes of one run are remembered: it has another one after each change of its steps.
_REMEMBERED = 20


def trusted_folders() -> list[Path]:
    """Return the folders and files that the user trusts. Raises `RecipeError` if others could have written the list."""
    folders = _read(_list_file()).get("trusted", [])
    return [Path(folder) for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []


def is_in_trusted_folder(place: Path) -> bool:
    """Return whether the user trusts a folder above this real path, or the path itself, and nobody else may write there."""
    inside = any(place.is_relative_to(folder) for folder in trusted_folders())
    return inside and open_to_all(place) is None


def open_to_all(place: Path) -> Path | None:
    """Return the file or folder inside a trusted folder, on the way to this real path, that every user may write into."""
    for folder in trusted_folders():
        if place.is_relative_to(folder):
            inner = (each for each in (place, *place.parents) if each.is_relative_to(folder))
            return next((each for each in inner if _others_may_replace(each, inside=True)), None)
    return None


def trust(place: Path) -> Path:
    """Add a folder or a file to those that the user trusts, and return its real path.

    Raises `RecipeError` if it does not exist or others may write into it.
    """
    real = place.expanduser().resolve()
    if not real.exists():
        raise RecipeError(f"trust: there is no {str(place)!r}. Give the folder that holds the recipes, or one recipe")
    if real == Path(real.anchor):
        raise RecipeError(f"trust: {str(real)!r} is the whole machine. Give the folder that holds the recipes")
    if others := next((each for each in (real, *real.parents) if _others_may_replace(each, inside=each == real)), None):
        raise RecipeError(
            f"trust: every user of this machine may write into {str(others)!r}, so a recipe there may be anyone's. Move it "
            "into a folder of your own, or take the right away: chmod o-w"
        )
    _write_list([*(each for each in trusted_folders() if each != real), real])
    return real


def distrust(place: Path) -> Path:
    """Remove a folder or file from those that the user trusts. Raises `RecipeError` if it is not among them."""
    real, folders = place.expanduser().resolve(), trusted_folders()
    if real not in folders:
        listed = ", ".join(map(str, folders)) or "none"
        raise RecipeError(f"trust --remove: {str(real)!r} is not trusted by itself. Trusted: {listed}")
    _write_list([each for each in folders if each != real])
    return real


def remember_run(folder: Path, recipe: str) -> None:
    """Remember that the run in `folder` was started here with the text `recipe`, so that it resumes without being asked."""
    file = _run_file(folder)
    digest = digest_of(recipe.encode())
    known = [each for each in _digests(file) if each != digest]
    _write(file, {"folder": str(folder.resolve()), "recipes": [*known[-_REMEMBERED + 1 :], digest]})


def is_known_run(recipe: Path, digest: str) -> bool:
    """Return whether a file is the recipe of a run that was started here, in that folder and with exactly that content."""
    return recipe.name == "recipe.yaml" and digest in _digests(_run_file(recipe.parent))


def _list_file() -> Path:
    return _home("XDG_CONFIG_HOME", ".config") / "trusted.json"


def _run_file(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:32]
    return _home("XDG_STATE_HOME", ".local/state") / "runs" / f"{name}.json"


def _home(variable: str, default: str) -> Path:
    written = os.environ.get(variable, "")
    return (Path(written) if os.path.isabs(written) else Path.home() / default) / "rosd-kit"


def _digests(file: Path) -> list[str]:
    digests = _read(file).get("recipes", [])
    return [each for each in digests if isinstance(each, str)] if isinstance(digests, list) else []


def _read(file: Path) -> dict[str, object]:
    """Return the object in a file of the user's own, empty if there is none."""
    if not file.exists():
        return {}
    for each in (file, file.parent):
        found = each.stat()
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RecipeError(
                f"{each}: other users could have written it, so it says nothing about whom you trust. Look at it, then: "
                f"chmod go-w {each}, or delete it"
            )
    return read_json_object(file)


def _write(file: Path, content: dict[str, object]) -> None:
    with explain_write_errors(f"{file}:", "Set XDG_CONFIG_HOME and XDG_STATE_HOME to folders of your own.", RecipeError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (file.parent, *file.parent.parents):
            if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                folder.chmod(0o700)  # as a wide umask leaves it
            if folder.name == "rosd-kit":
                break
        mask = os.umask(0o077)
        try:
            write_atomically(file, [json.dumps(content, indent=1) + "\n"], sync=True)
        finally:
            os.umask(mask)


def _write_list(folders: Sequence[Path]) -> None:
    _write(_list_file(), {"trusted": [str(folder) for folder in folders]})


def _others_may_replace(place: Path, *, inside: bool) -> bool:
    """Return whether any user may write into a folder; above the trusted one, a sticky folder protects what is in it."""
    mode = place.stat().st_mode
    return bool(mode & stat.S_IWOTH) and (inside or not mode & stat.S_ISVTX)
