"""Loads the model and tokenizer that a recipe's `model.*` settings name.

It finds the folder, pins a hub model to one commit, and decides what code may run and whether pickles may be read. A hub model
is downloaded completely, at one commit, and then read like any other folder. Does not know training.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from rosd_kit.errors import RunError, shortened
from rosd_kit.model.micro.model import BLANKS, EMBEDDED, base_path, blank_model, blank_tokenizer
from rosd_kit.model.weight_files import plain_file, reads_pickles, weight_files
from rosd_kit.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: What transformers, torch and the hub client raise for files that are missing, damaged or of another kind.
_LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, ArithmeticError),
    *(ImportError, RuntimeError, AttributeError, EOFError),
    *(pickle.UnpicklingError, SafetensorError, StrictDataclassError),
)
#: Numbers in config.json that must be above zero, and those that are ids of tokens.
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_PACKAGE_PREFIX = "package:"
_SAFE_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.safetensors")
_PICKLE_FILES = ("*.bin", "*.pt", "*.pth")
#: Copies of the weights in other formats, which some repositories hold as well.
_DUPLICATES = ("*/*", "consolidated*")
_ALLOWED = (
    f"Allowed: {', '.join(map(repr, [*EMBEDDED, *BLANKS]))}, a folder, '{_PACKAGE_PREFIX}NAME' for an installed package that "
    "holds one, or a hub name."
)


def pin_revision(settings: ModelSettings) -> ModelSettings:
    """Return the settings with a hub model's `revision` resolved to its current commit; other models' settings unchanged.

    Raises `RunError` when the model or revision does not exist.
    """
    if local_folder(settings) is not None or settings.path in BLANKS:
        return settings
    with _explain_errors(settings):
        file = hf_hub_download(settings.path, settings.gguf or "config.json", revision=settings.revision)
    return settings.model_copy(update={"revision": Path(file).parent.name})


def find_model(settings: ModelSettings) -> Path | None:
    """Return the model's folder, downloaded from the hub if necessary; None for the blank model, which has no folder.

    Raises `RunError` when the model does not exist, and when its weights are pickled or it needs its own code while the
    settings do not allow that.
    """
    if settings.path in BLANKS:
        return None
    folder = local_folder(settings)
    if folder is None:
        patterns = [*_SAFE_FILES, *([settings.gguf] if settings.gguf else ())]
        patterns += [*(_PICKLE_FILES if settings.pickle_weights else ()), *(["*.py"] if settings.trust_remote_code else ())]
        commit = pin_revision(settings).revision
        with _explain_errors(settings):
            folder = Path(
                snapshot_download(settings.path, revision=commit, allow_patterns=patterns, ignore_patterns=[*_DUPLICATES])
            )
    _check_folder(folder, settings)
    return folder


def load_tokenizer(folder: Path | None, settings: ModelSettings) -> PreTrainedTokenizerBase:
    """Return the tokenizer; a chat template named in the settings replaces its own."""
    if folder is None:
        return blank_tokenizer(settings.path)
    with _explain_errors(settings):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=settings.trust_remote_code, **_gguf_options(settings)
        )
    if settings.chat_template is not None:
        tokenizer.chat_template = _read_template(settings.chat_template)
    return tokenizer


def load_model(folder: Path | None, settings: ModelSettings, seed: int) -> PreTrainedModel:
    """Return the model in the dtype that the settings name. Raises `RunError` when any of its weights are missing."""
    dtype = getattr(torch, settings.dtype)
    if folder is None:
        blank: PreTrainedModel = blank_model(seed, settings.path).to(dtype)
        return blank
    options = _gguf_options(settings)
    files = [] if settings.gguf is not None else weight_files(folder, pickles=settings.pickle_weights)
    if settings.gguf is not None:
        from transformers import GgufConfig  # since 5.17; everything else here works with older releases

        options["quantization_config"] = GgufConfig(dequantize=True)
    with _explain_errors(settings), no_progress_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=settings.attention,
            use_safetensors=settings.gguf is not None or not reads_pickles(files),
            weights_only=True,
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    model: PreTrainedModel
    model, report = loaded  # transformers does not declare the pair
    missing = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if missing:
        raise RunError(
            f"model.path: the weights of {settings.path!r} lack {len(missing)} tensors, which would start at random; the first "
            f"is {missing[0]!r}. Use a complete causal language model."
        )
    if getattr(model.config.get_text_config(), "num_hidden_layers", 1) < 1:  # whatever the config calls it
        raise RunError(f"model.path: the config of {settings.path!r} says that the model has no layers. Use a complete model.")
    return model


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars out of the run's own display; that of GGUF files heeds no switch of transformers."""
    enabled, bar = transformers_logging.is_progress_bar_enabled(), vars(modeling_gguf_pytorch_utils).get("tqdm")
    transformers_logging.disable_progress_bar()
    vars(modeling_gguf_pytorch_utils)["tqdm"] = lambda tensors, **_: tensors
    try:
        yield
    finally:
        vars(modeling_gguf_pytorch_utils)["tqdm"] = bar
        if enabled:
            transformers_logging.enable_progress_bar()


@contextmanager
def _explain_errors(settings: ModelSettings) -> Iterator[None]:
    """Turn errors from transformers and the hub client into a `RunError` that names the field and the allowed values."""
    try:
        yield
    except _LOADING_ERRORS as error:
        if "does not support an attention implementation" in str(error):
            raise RunError(
                f"model.attention: {settings.attention!r} is not available for {settings.path!r}. Use model.attention=eager."
            ) from error
        what = repr(settings.path) + (f" at revision {settings.revision!r}" if settings.revision else "")
        raise RunError(f"model.path: cannot load {what}: {error}\n{_ALLOWED}") from error


def local_folder(settings: ModelSettings) -> Path | None:
    """Return the folder that `model.path` names, or None for a hub name or the blank model.

    Raises `RunError` when the path is clearly a folder that does not exist, or a folder is given a revision.
    """
    path = settings.path
    if path in BLANKS:
        return None
    if path in EMBEDDED:
        folder = base_path(path)
    elif path.startswith(_PACKAGE_PREFIX):
        folder = _package_folder(path.removeprefix(_PACKAGE_PREFIX))
    else:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
                raise RunError(f"model.path: cannot load {path!r}: there is no such folder.\n{_ALLOWED}")
            return None
    if settings.revision is not None:
        raise RunError(f"model.revision: {settings.revision!r} was requested, but {path!r} is a folder, which has only one.")
    return folder


def _package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise RunError(f"model.path: no package {name!r} is installed here. Install it, or name a folder or a hub model.")
    return Path(spec.submodule_search_locations[0])


def _check_folder(folder: Path, settings: ModelSettings) -> None:
    """Raise `RunError` when the folder holds no readable model, or one that needs something the settings do not allow."""
    where = f"model.path: {settings.path!r}"
    if settings.gguf is not None:
        if not plain_file(folder, settings.gguf, (".gguf",), "model.gguf").is_file():
            raise RunError(f"model.gguf: {settings.path!r} holds no {settings.gguf!r}.{_list_files(folder, '*.gguf')}")
        if (folder / "adapter_config.json").is_file():
            raise RunError(f"{where} holds an adapter beside the GGUF file. Move adapter_config.json into another folder.")
        if find_spec("gguf") is None:
            raise RunError('model.gguf needs the package gguf, which is not installed. Run: pip install "rosd-kit[gguf]"')
        return
    if not (folder / "config.json").is_file():
        is_adapter = (folder / "adapter_config.json").is_file()
        hint = (
            " It is a LoRA adapter: set model.path to its base model and model.lora.path to this folder." if is_adapter else ""
        )
        hint = hint or (f" Set model.gguf.{_list_files(folder, '*.gguf')}" if any(folder.glob("*.gguf")) else "")
        raise RunError(f"{where} holds no config.json.{hint} Give a folder as written by save_pretrained.")
    if not weight_files(folder, pickles=settings.pickle_weights):
        pickles = sorted(file.name for pattern in _PICKLE_FILES for file in folder.glob(pattern))
        if pickles and not settings.pickle_weights:
            raise RunError(
                f"{where} holds pickled weights only ({pickles[0]}). A pickle can run code when it is read. Convert it (load "
                "it in an isolated place and call save_pretrained), or set model.pickle_weights=true: torch then reads only "
                "tensors from it (weights_only)."
            )
        hint = "" if settings.pickle_weights else " Set model.pickle_weights=true to read pickled weights (*.bin)."
        raise RunError(f"{where} holds no *.safetensors that is called model.safetensors, or that an index names.{hint}")
    config = _read_config(folder / "config.json")
    model_type = config.get("model_type")
    if "auto_map" in config and model_type not in CONFIG_MAPPING and not settings.trust_remote_code:
        raise RunError(
            f"{where} has the model type {model_type!r}, unknown to transformers, so Python code that comes with the model "
            "would run. Read that code; if you trust it, set model.trust_remote_code=true."
        )


def _read_config(file: Path) -> Mapping[str, object]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise RunError(f"model.path: {file} cannot be read: {why}") from error
    if not isinstance(content, dict):
        raise RunError(
            f"model.path: {file} holds {shortened(content)}, not an object. Give a folder as written by save_pretrained."
        )
    _check_values(content, file)
    return content


def _check_values(config: Mapping[str, object], file: Path) -> None:
    """Raise `RunError` for sizes and ids with which transformers would fail far from their cause, or build nothing."""
    text = config.get("text_config")
    for name, value in [
        (name, part[name]) for part in (config, text) if isinstance(part, Mapping) for name in _SIZES if name in part
    ]:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31):
            raise RunError(f"model.path: {name} in {file} is {shortened(value)}. It must be a whole number above 0.")
    for name in _IDS:
        value = config.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(id, int) and not isinstance(id, bool) and -1 <= id < 1 << 31 for id in ids):
            raise RunError(
                f"model.path: {name} in {file} is {shortened(value)}. It must be a token's id, a list of ids, or null."
            )


def _read_template(file: str) -> str:
    try:
        if (path := Path(file).expanduser()).exists() and not path.is_file():
            raise OSError("it is not a file")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"model.chat_template: {file!r} cannot be read: {error}. Give the path of a Jinja file.") from error


def _gguf_options(settings: ModelSettings) -> dict[str, object]:
    return {} if settings.gguf is None else {"gguf_file": settings.gguf}


def _list_files(folder: Path, pattern: str) -> str:
    names = sorted(file.name for file in folder.glob(pattern))
    return f" There are: {', '.join(names)}." if names else ""
