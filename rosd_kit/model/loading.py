"""From `model.*` of a recipe to a model and a tokenizer: where they lie, which commit, what may be run or unpickled.

A hub model is first fetched, whole and of one commit, and then read like any other folder. Knows nothing of training.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from rosd_kit.errors import RunError
from rosd_kit.model.micro.model import BLANK, base_path, blank_model
from rosd_kit.model.micro.tokenizer import build_tokenizer
from rosd_kit.settings import ModelSettings

#: What transformers, torch and the hub raise for files that are missing, damaged or of another kind.
_FAILURES = (
    *(OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, EOFError),
    *(pickle.UnpicklingError, SafetensorError),
)
_PACKAGE = "package:"
_PLAIN = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth")
#: Copies of the weights in other formats, which lie beside them in some repositories.
_COPIES = ("*/*", "consolidated*")
_ALLOWED = f"Allowed: 'micro', {BLANK!r}, a folder, '{_PACKAGE}NAME' for an installed package that holds one, or a hub name."


def pinned(settings: ModelSettings) -> ModelSettings:
    """Return the settings with a hub model's `revision` as the commit that it stands for now; others as they are.

    Raises `RunError` when there is no such model or revision.
    """
    if local_folder(settings) is not None or settings.path == BLANK:
        return settings
    with _explained(settings):
        file = hf_hub_download(settings.path, settings.gguf or "config.json", revision=settings.revision)
    return settings.model_copy(update={"revision": Path(file).parent.name})


def find_model(settings: ModelSettings) -> Path | None:
    """Return the folder of the model, fetched from the hub if need be; None for the blank one, which has no folder.

    Raises `RunError` when there is none, when its weights are pickled, or when it needs its own code, unless the settings
    allow that.
    """
    if settings.path == BLANK:
        return None
    folder = local_folder(settings)
    if folder is None:
        wanted = [*_PLAIN, *([settings.gguf] if settings.gguf else ())]
        wanted += [*(_PICKLES if settings.pickle_weights else ()), *(["*.py"] if settings.trust_remote_code else ())]
        commit = pinned(settings).revision
        with _explained(settings):
            folder = Path(snapshot_download(settings.path, revision=commit, allow_patterns=wanted, ignore_patterns=[*_COPIES]))
    _check(folder, settings)
    return folder


def load_tokenizer(folder: Path | None, settings: ModelSettings) -> Any:
    """Return the tokenizer, with the chat template that the settings name if they do."""
    if folder is None:
        return build_tokenizer()
    with _explained(settings):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code, **_gguf(settings))
    if settings.chat_template is not None:
        tokenizer.chat_template = _template(settings.chat_template)
    return tokenizer


def load_model(folder: Path | None, settings: ModelSettings, seed: int) -> Any:
    """Return the model in the type that the settings name. Raises `RunError` when some of its weights are missing."""
    dtype = getattr(torch, settings.dtype)
    if folder is None:
        return blank_model(seed).to(dtype)
    options = _gguf(settings)
    if settings.gguf is not None:
        options["quantization_config"] = GgufConfig(dequantize=True)
    with _explained(settings), no_progress_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=settings.attention,
            use_safetensors=settings.gguf is not None or any(folder.glob("*.safetensors")),
            weights_only=True,
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    model, found = loaded
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking:
        raise RunError(
            f"model.path: the weights of {settings.path!r} lack {len(lacking)} tensors, which would start at random; first "
            f"{lacking[0]!r}. Use a whole causal language model."
        )
    return model


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the bars of transformers out of the run's own display."""
    wanted = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if wanted:
            transformers_logging.enable_progress_bar()


@contextmanager
def _explained(settings: ModelSettings) -> Iterator[None]:
    """Say what cannot be loaded, and what can, for whatever transformers or the hub raise."""
    try:
        yield
    except _FAILURES as error:
        if "does not support an attention implementation" in str(error):
            raise RunError(
                f"model.attention: {settings.attention!r} is not there for {settings.path!r}. Use model.attention=eager."
            ) from error
        what = repr(settings.path) + (f" at revision {settings.revision!r}" if settings.revision else "")
        raise RunError(f"model.path: cannot load {what}: {error}\n{_ALLOWED}") from error


def local_folder(settings: ModelSettings) -> Path | None:
    """Return the folder that `model.path` names, or None for a name on the hub. Raises `RunError` for what is neither."""
    path = settings.path
    if path == BLANK:
        return None
    if path == "micro":
        folder = base_path()
    elif path.startswith(_PACKAGE):
        folder = _package(path.removeprefix(_PACKAGE))
    else:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
                raise RunError(f"model.path: cannot load {path!r}: there is no such folder.\n{_ALLOWED}")
            return None
    if settings.revision is not None:
        raise RunError(f"model.revision: {settings.revision!r} was asked for, but {path!r} is a folder, which has only one.")
    return folder


def _package(name: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise RunError(f"model.path: no package {name!r} is installed here. Install it, or name a folder or a hub model.")
    return Path(found.submodule_search_locations[0])


def _check(folder: Path, settings: ModelSettings) -> None:
    """Raise `RunError` for a folder that cannot be read, or not without what the settings do not allow."""
    where = f"model.path: {settings.path!r}"
    if settings.gguf is not None:
        if not (folder / settings.gguf).is_file():
            raise RunError(f"model.gguf: {settings.path!r} holds no {settings.gguf!r}.{_listed(folder, '*.gguf')}")
        if find_spec("gguf") is None:
            raise RunError('model.gguf needs the package gguf, which is not installed. Run: pip install "rosd-kit[gguf]"')
        return
    if not (folder / "config.json").is_file():
        hint = " It is a LoRA adapter: merge it into its base model." if (folder / "adapter_config.json").is_file() else ""
        hint = hint or (f" Set model.gguf.{_listed(folder, '*.gguf')}" if any(folder.glob("*.gguf")) else "")
        raise RunError(f"{where} holds no config.json.{hint} It must be a folder as save_pretrained writes it.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        if not pickles and not settings.pickle_weights:
            raise RunError(f"{where} holds no *.safetensors. Pickled weights (*.bin) are read only under model.pickle_weights.")
        if not settings.pickle_weights:
            raise RunError(
                f"{where} holds pickled weights only ({pickles[0]}). A pickle can run code when it is read. Convert it "
                "(load it where that does no harm, and save_pretrained it), or set model.pickle_weights=true: torch then reads "
                "tensors and nothing else from it (weights_only)."
            )
    config = _read(folder / "config.json")
    kind = config.get("model_type")
    if "auto_map" in config and kind not in CONFIG_MAPPING and not settings.trust_remote_code:
        raise RunError(
            f"{where} is of the kind {kind!r}, which transformers does not know: Python code that comes with the model would "
            "be run. Read that code; if you trust it, set model.trust_remote_code=true."
        )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"model.path: {file} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _template(file: str) -> str:
    try:
        return Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"model.chat_template: {file!r} cannot be read: {error}. Give the path of a Jinja file.") from error


def _gguf(settings: ModelSettings) -> dict[str, Any]:
    return {} if settings.gguf is None else {"gguf_file": settings.gguf}


def _listed(folder: Path, pattern: str) -> str:
    names = sorted(file.name for file in folder.glob(pattern))
    return f" There are: {', '.join(names)}." if names else ""
