"""References between fields: `${section.field}` stands for another field's value, and `\\${` is the text `${`.

There are no resolvers, so a recipe cannot read the environment or files, and no chains, so a small recipe cannot become huge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from omegaconf import OmegaConf

from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.recipe.layers import Leaf
from rosd_kit.types import JsonObject

MAX_REFERENCES = 100
#: A reference, after backslashes: an odd number of them makes it plain text, as in OmegaConf.
_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")
_OPENING = re.compile(r"(?<!\\)(\\*+)\$\{")


def check_references(text: str, where: str) -> None:
    """Refuse every `${...}` that is not the plain path of another field."""
    if "${" in _ESCAPED.sub(" ", _REFERENCE.sub(" ", text)):  # a space, so that what is left does not join to `${`
        raise RecipeError(
            f"{where}: {text[:80]!r} is not a plain reference. Only ${{section.field}} is allowed, no resolvers "
            "like ${oc.env:...}. Pass changing values on the command line: field=value. For the text ${ itself write \\${"
        )


def escape_references(text: str) -> str:
    """Return the text as a recipe must write it so that no `${` in it is read as a reference."""
    return _OPENING.sub(lambda match: f"{match[1] * 2}\\${{", text)


def replace_references(values: Mapping[str, object], leaves: Mapping[str, Leaf]) -> JsonObject:
    """Return nested values with every reference replaced; `leaves` are the same values by dotted path.

    Raises `RecipeError` for a reference to nothing, to a section, or to a value that holds a reference itself.
    """
    references = [(path, target) for path, leaf in leaves.items() for target in targets(leaf.value)]
    if len(references) > MAX_REFERENCES:
        raise RecipeError(f"{len(references)} references ${{...}} in the recipe; at most {MAX_REFERENCES} are allowed")
    for path, target in references:
        where = f"{path}: ${{{target}}} (from {leaves[path].source})"
        if target not in leaves:
            raise RecipeError(
                f"{where} is not the path of a value that a layer sets.{did_you_mean(target, leaves)} "
                f"For the text ${{{target}}} itself write \\${{{target}}}"
            )
        if targets(leaves[target].value):
            raise RecipeError(f"{where} points to another reference; point to the value itself")
    if not any("${" in str(leaf.value) for leaf in leaves.values()):
        return dict(values)
    resolved = OmegaConf.to_container(OmegaConf.create(dict(values)), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def targets(value: object) -> list[str]:
    """Return the paths that a leaf's value refers to. A list is a leaf too."""
    if isinstance(value, str):
        return _REFERENCE.findall(value)
    return [target for item in value for target in targets(item)] if isinstance(value, list) else []
