"""Finds recipes, profiles, task presets and prompts files by path or by shipped name, without reading them."""

from __future__ import annotations

import os
from pathlib import Path

from rosd_kit.errors import RecipeError, did_you_mean, shortened

_KINDS = {"": "recipe", "profiles": "profile", "tasks": "task preset", "prompts": "prompts file"}
_NO_RECIPES = ("profiles/", "tasks/", "prompts/")
_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = next(
    (folder for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes") if folder.is_dir()),
    _PACKAGE / "recipes",
)
"""The folder of the shipped recipes: inside an installed package, beside it in a checkout."""


def shipped_names(folder: str = "") -> list[str]:
    """Return the names of the shipped recipes, or of those in a folder: `profiles`, `tasks`, `prompts`."""
    root = SHIPPED / folder
    files = (path for path in root.rglob("*.yaml") if not path.name.endswith(".sweep.yaml"))
    names = (path.relative_to(root).with_suffix("").as_posix() for path in files)
    return sorted(name for name in names if folder or not name.startswith(_NO_RECIPES))


def find(what: str, *, base: Path | None = None, folder: str = "") -> Path:
    """Return the file of a recipe: a path ending in .yaml (relative to `base`), or the name of a shipped one.

    `recipes/rosd.yaml` means the shipped recipe even if the working folder has no such file. Raises `RecipeError` that suggests
    the nearest name.
    """
    shipped = shipped_names(folder)
    if what.endswith((".yaml", ".yml")):
        try:
            path = (base or Path()) / Path(what).expanduser()
            if path.is_file():
                path.resolve()
                return path
        except (OSError, RuntimeError, ValueError) as error:  # no such user, a name too long, a ring of links
            raise RecipeError(f"no file {shortened(what, 240)}: {getattr(error, 'strerror', None) or error}") from error
        name = what.removeprefix("recipes/").rsplit(".", 1)[0].removeprefix(f"{folder}/" if folder else "")
        if name in shipped and base is None and what.startswith("recipes/"):
            return SHIPPED / folder / f"{name}.yaml"
        if path.is_dir():
            raise RecipeError(f"{shortened(str(path), 240)} is a folder, not a file. Give the path of a .yaml file.")
        raise RecipeError(
            f"no file {shortened(str(path), 240)}.{did_you_mean(name[:200], shipped)} {_choices(folder, shipped)}"
        )
    if what not in shipped and os.path.isfile(what):
        raise RecipeError(
            f"{shortened(what, 240)} is not a .yaml file. Write the {_KINDS[folder]} as YAML, in a file that ends in .yaml."
        )
    if what not in shipped:
        raise RecipeError(
            f"unknown {_KINDS[folder]} {shortened(what, 240)}.{did_you_mean(what[:200], shipped)} {_choices(folder, shipped)}"
        )
    return SHIPPED / folder / f"{what}.yaml"


def label(path: Path) -> str:
    """Return a file's name for messages: short and, where possible, the same on every machine."""
    full = path.resolve()
    if full.is_relative_to(SHIPPED):
        return f"recipes/{full.relative_to(SHIPPED).as_posix()}"
    return full.relative_to(Path.cwd()).as_posix() if full.is_relative_to(Path.cwd()) else str(path)


def _choices(folder: str, names: list[str]) -> str:
    known = f"{_KINDS[folder].capitalize()}s" if folder else "Shipped recipes"
    return f"{known}: {', '.join(names)}, or the path of a .yaml file."
