"""Reads recipes and profiles: files, `extends` chains and command-line overrides.

Each becomes a plain mapping, one per layer. YAML is read without tags, aliases or resolvers, so a recipe can neither run code,
nor read the environment, nor grow when it is loaded. This module knows no field of a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rosd_kit.errors import RecipeError, shortened
from rosd_kit.recipe.ambiguous import UnambiguousDumper, refuse_ambiguous
from rosd_kit.recipe.references import check_references
from rosd_kit.recipe.shipped import find, label
from rosd_kit.recipe.source_file import SourceFile, source_file
from rosd_kit.types import JsonObject

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_OVERRIDES = 1000
_SURROGATE = re.compile("[\ud800-\udfff]")


class FileLayer(NamedTuple):
    """What a file says: its path, its content, and the file for trust (None: shipped, or written by the caller)."""

    path: Path
    content: JsonObject
    file: SourceFile | None


def read_chain(path: Path, *, folder: str = "") -> list[FileLayer]:
    """Return a file and all files that it extends, the base first. Raises `RecipeError` on a cycle."""
    chain: list[FileLayer] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in seen:
            names = " -> ".join(label(each) for each in [*seen, following])
            raise RecipeError(f"extends: {names} is a cycle. Remove one of these lines.")
        seen.append(following.resolve())
        content, file = read_file(following)
        extends = content.pop("extends", None)
        if extends is not None and not isinstance(extends, str):
            raise RecipeError(f"extends: {extends!r} in {label(following)} must be one file or name")
        chain.append(FileLayer(following, content, file))
        following = find(extends, base=following.parent, folder=folder) if extends else None
    return chain[::-1]


def chain_of(fields: Mapping[str, object]) -> list[FileLayer]:
    """Return a recipe that is given as a mapping, and every file that it extends, like `read_chain`."""
    try:
        text = yaml.dump(dict(fields), Dumper=UnambiguousDumper, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"the recipe: cannot be written as YAML: {_fault(error)}. Use plain values") from error
    content = parse(text, "the recipe")
    extends = content.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        raise RecipeError(f"extends: {extends!r} in the recipe must be one file or name")
    return [*(read_chain(find(extends)) if extends else ()), FileLayer(Path.cwd() / "recipe", content, None)]


def read_yaml(path: Path) -> JsonObject:
    """Return the mapping in a file. Raises `RecipeError` for anything but small, plain YAML."""
    return read_file(path)[0]


def read_file(path: Path) -> tuple[JsonObject, SourceFile | None]:
    """Return the mapping in a file as `read_yaml` does, and the file for trust."""
    raw, text = _read(path)
    return parse(text, label(path)), source_file(path, raw)


def read_texts(path: Path) -> JsonObject:
    """Return the mapping in a YAML file of texts, in which `${` has no meaning. Raises `RecipeError` like `read_yaml`."""
    text, where = _read(path)[1], label(path)
    try:
        _refuse_unsafe(text, where, references=False)
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), where)
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: is not valid YAML: {_fault(error)}") from error
    return _checked_mapping(content, where)


def _read(path: Path) -> tuple[bytes, str]:
    where = label(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise RecipeError(f"{where}: larger than 1 MiB, too large for a recipe. Give the path of a recipe.")
        return raw, raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{where}: cannot be read as text: {error}") from error


def parse(text: str, where: str) -> JsonObject:
    """Return the mapping in a YAML text; `where` names it in errors."""
    return deepcopy(_parsed(text, where))


@lru_cache(maxsize=64)
def _parsed(text: str, where: str) -> JsonObject:
    """Parse a text once: a sweep, or a notebook, reads the same recipes again and again."""
    try:
        _refuse_unsafe(text, where)
        content: object = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: is not valid YAML: {_fault(error)}") from error
    except OmegaConfBaseException as error:
        raise RecipeError(f"{where}: {str(error).splitlines()[0]}") from error
    return _checked_mapping(content, where)


def _is_split(override: str, following: str) -> bool:
    """Return whether two words look like a field and its value with a space between them."""
    return re.fullmatch(r"[A-Za-z_][\w.]*", override) is not None and following != "" and "=" not in following


def read_overrides(overrides: Iterable[str]) -> list[tuple[str, JsonObject]]:
    """Return one layer per `field=value`; those that choose a component come first, in whatever order they were given."""
    given, layers = list(overrides), []
    if len(given) > MAX_OVERRIDES or sum(map(len, given)) > MAX_BYTES:
        raise RecipeError(
            f"{len(given)} overrides of {sum(map(len, given))} characters; at most {MAX_OVERRIDES} of {MAX_BYTES} characters "
            "together are read. Write them into a recipe that extends this one."
        )
    for override, following in zip(given, [*given, ""][1:], strict=True):
        field, equals, value = override.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.\[\]]*", field):
            joined = f" Did you mean {field}={shortened(following)[1:-1]}?" if _is_split(override, following) else ""
            raise RecipeError(
                f"override {shortened(override)} is not of the form field=value, for example optimizer.lr=1e-5.{joined}"
            )
        layers.append((field, deepcopy(_read_override(override, field, value))))
    return sorted(layers, key=lambda layer: "." in layer[0].removesuffix(".name"))


@lru_cache(maxsize=1024)
def _read_override(override: str, field: str, value: str) -> JsonObject:
    where = f"override {shortened(override)}"
    if field.count(".") + field.count("[") >= MAX_DEPTH:
        raise RecipeError(f"{where}: nested deeper than the {MAX_DEPTH} levels that are allowed")
    try:
        _refuse_unsafe(value, where, root=None)
        content: object = OmegaConf.to_container(OmegaConf.from_dotlist([override]), resolve=False)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: the value is not valid YAML: {_fault(error)}") from error
    except OmegaConfBaseException as error:
        raise RecipeError(f"{where}: {str(error).splitlines()[0]}") from error
    return _checked_mapping(content, where)


def _refuse_unsafe(text: str, where: str, root: type | None = yaml.MappingStartEvent, *, references: bool = True) -> None:
    """Refuse unsafe YAML by its events, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise RecipeError(f"{where}, line {line}: YAML aliases (*name) are not allowed. Use ${{section.field}}")
        if isinstance(event, yaml.NodeEvent):
            if root is not None and depth == 0 and not isinstance(event, root):
                raise RecipeError(f"{where}: must be a mapping of fields, for example `steps: 100`")
            if (tag := getattr(event, "tag", None)) not in (None, "!"):
                raise RecipeError(f"{where}, line {line}: YAML tags ({tag}) are not allowed. Write plain values")
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                raise RecipeError(f"{where}, line {line}: a text holds half of a surrogate pair, which is no character")
            if "\0" in event.value:
                raise RecipeError(f"{where}, line {line}: a text holds a NUL character, which no path or prompt can hold")
            if event.implicit[0]:
                refuse_ambiguous(event.value, f"{where}, line {line}")
            if references:
                check_references(event.value, f"{where}, line {line}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{where}, line {line}: nested deeper than the {MAX_DEPTH} levels that are allowed")


def _refuse_repeated_keys(node: yaml.Node | None, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError(f"{where}, line {key.start_mark.line + 1}: a list or mapping is no key. Write a word")
            if str(key.value) in seen:
                raise RecipeError(f"{where}, line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
            seen.add(str(key.value))
            _refuse_repeated_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, where)


def _checked_mapping(content: object, where: str) -> JsonObject:
    """Return a mapping whose keys are text at every depth; an empty file is an empty mapping."""
    _refuse_odd_keys(content, where)
    return dict(content) if isinstance(content, Mapping) else {}


def _refuse_odd_keys(content: object, where: str) -> None:
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str):
                raise RecipeError(f"{where}: the key {key!r} is not text. Put it in quotes or correct it")
            _refuse_odd_keys(value, where)
    elif isinstance(content, list):
        for value in content:
            _refuse_odd_keys(value, where)


def _fault(error: Exception) -> str:
    """Explain a YAML error in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
