"""Says which files of a folder hold its weights, and refuses every file that could be anything but tensors of this folder.

Transformers reads the names of weight files from other files (an index, `config.json`) and chooses by their endings whether to
unpickle. So the names are checked here, as it will read them. Knows no recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rosd_kit.errors import RunError, shortened
from rosd_kit.types import JsonObject

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"
_SAFE_ENDING, _PICKLE_ENDINGS = ".safetensors", (".bin", ".pt", ".pth")


def weight_files(folder: Path, *, pickles: bool) -> list[Path]:
    """Return the files that transformers reads the weights in `folder` from; empty if it would find none.

    They are safetensors, or with `pickles` and without safetensors, pickles. Raises `RunError` for a name in an index or in
    `config.json` that is not a plain file name with the right ending, for links out of the folder, and for pipes.
    """
    _refuse_pipes(folder)
    _refuse_adapter(folder)
    if named := _named_in_config(folder):
        return named
    if (files := _from(folder, _SAFE, (_SAFE_ENDING,))) or not pickles:
        return files
    return _from(folder, _PICKLED, (*_PICKLE_ENDINGS, _SAFE_ENDING))


def plain_file(folder: Path, name: object, endings: tuple[str, ...], said_by: str) -> Path:
    """Return the file `name` in `folder`. Raises `RunError` unless it is a plain name with one of the endings, and no way out.

    `said_by` names the field or file that the name comes from. Links within the folder are followed, also those of the hub's
    cache, whose files lie in `blobs` beside `snapshots`.
    """
    if not isinstance(name, str) or name != Path(name).name or "\\" in name or name[:1] == "." or not name.isprintable():
        raise RunError(
            f"{said_by}: {shortened(name, 200)} is not the plain name of a file in {str(folder)!r}. Weights are read from the "
            "model's own folder only; correct the name, or get the model from its source again."
        )
    if not name.endswith(endings):
        raise RunError(
            f"{said_by}: {name!r} does not end in {' or '.join(endings)}. A file of another kind could run code when it is "
            "read. Convert the model with save_pretrained, in an isolated place, or get it from its source again."
        )
    file = folder / name
    if not any(file.resolve().is_relative_to(place) for place in _places(folder)):
        raise RunError(
            f"{said_by}: {name!r} is a link out of {str(folder)!r}, to {str(file.resolve())!r}. Copy the file into the folder."
        )
    return file


def reads_pickles(files: list[Path]) -> bool:
    """Return whether any of these files is a pickle."""
    return any(file.suffix in _PICKLE_ENDINGS for file in files)


def _from(folder: Path, name: str, endings: tuple[str, ...]) -> list[Path]:
    """Return one whole file of weights, or those that its index names, in the order of preference of transformers."""
    if (folder / name).is_file():
        return [plain_file(folder, name, endings, "model.path")]
    index = f"{name}{_INDEX}"
    return _indexed(folder, index, endings) if (folder / index).is_file() else []


def _indexed(folder: Path, index: str, endings: tuple[str, ...]) -> list[Path]:
    said_by = f"model.path: {folder / index}"
    named = _read(folder / index).get("weight_map")
    if not isinstance(named, Mapping) or not named:
        raise RunError(f"{said_by}: has no weight_map with the file of each tensor. Get the model from its source again.")
    different = {str(name): name for name in named.values()}  # names may be anything that JSON can say, also lists
    files = [plain_file(folder, name, endings, said_by) for name in different.values()]
    if absent := [file.name for file in files if not file.is_file()]:
        raise RunError(f"{said_by}: names {absent[0]!r}, which is not there. Download the model completely.")
    return files


def _named_in_config(folder: Path) -> list[Path]:
    """Return the weights that a config file names itself, as `transformers_weights`.

    A config may name other config files to read in its place; whatever of these is there must pass the same check.
    """
    found: list[Path] = []
    for file in sorted(folder.glob("config*.json")):
        config = _read(file)
        for other in config.get("configuration_files") or ():
            plain_file(folder, other, (".json",), f"model.path: configuration_files in {file}")
        if (name := config.get("transformers_weights")) is not None:
            endings = (_SAFE_ENDING, f"{_SAFE_ENDING}{_INDEX}")
            weights = plain_file(folder, name, endings, f"model.path: transformers_weights in {file}")
            found += _indexed(folder, weights.name, (_SAFE_ENDING,)) if weights.name.endswith(_INDEX) else [weights]
    return found


def _refuse_pipes(folder: Path) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise RunError(f"model.path: {entry} is a pipe, a socket or a device, and reading it may never end. Remove it.")


def _refuse_adapter(folder: Path) -> None:
    """Refuse a model with an adapter beside it: transformers would load that too, pickled or not."""
    if (folder / "adapter_config.json").is_file():
        raise RunError(
            f"model.path: {str(folder)!r} holds an adapter (adapter_config.json) beside the model. Move the adapter into a "
            "folder of its own and name that in model.lora.path, or delete it."
        )


def _places(folder: Path) -> Iterator[Path]:
    yield folder.resolve()
    if folder.resolve().parent.name == "snapshots":
        yield folder.resolve().parent.parent / "blobs"


def _read(file: Path) -> JsonObject:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise RunError(f"model.path: {file} cannot be read: {why}. Get the model from its source again.") from error
    return content if isinstance(content, dict) else {}
