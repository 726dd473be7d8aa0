"""Selects the trainable weights: LoRA adapters, or all weights except those frozen by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.model.micro.model import BLANKS
from rosd_kit.model.weight_files import plain_file
from rosd_kit.settings import LoraSettings, ModelSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

#: Options of peft by which an adapter is more than a sum with the base weights; each must have one of these values.
_PLAIN: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),
    **dict.fromkeys(("use_dora", "lora_bias", "use_qalora", "use_bdlora"), (False, None)),
    **dict.fromkeys(("modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"), (None, [])),
    **dict.fromkeys(("alora_invocation_tokens", "velora_config", "monteclora_config", "arrow_config", "kasa_config"), (None,)),
}
_WEIGHTS = "adapter_model.safetensors"


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude the weights whose names match a pattern from training. Raises `RunError` for a pattern without a match."""
    named = list(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        matches = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not matches:
            raise RunError(
                f"model.freeze: no weight is called {pattern!r}.{did_you_mean(pattern, (name for name, _ in named))} "
                f"Names look like {named[0][0]!r}; `*` matches anything."
            )
        for parameter in matches:
            parameter.requires_grad_(False)


def resolve_adapter(lora: LoraSettings) -> LoraSettings:
    """Return the settings with rank, alpha, dropout and targets of the adapter in `path`; unchanged without one.

    Raises `RunError` when the folder holds no plain LoRA adapter, or the settings contradict it.
    """
    if lora.path is None:
        return lora
    config = _read_adapter(lora.path)
    targets = config.target_modules
    values: dict[str, object] = {
        "rank": config.r,
        "alpha": config.lora_alpha,
        "target_modules": targets if isinstance(targets, str) else sorted(targets or ()),
    }
    for field, value in values.items():
        own = getattr(lora, field)
        if field in lora.model_fields_set and (sorted(own) if isinstance(own, list) else own) != value:
            raise RunError(
                f"model.lora.{field}: {own!r} contradicts the adapter in {lora.path!r}, which has {value!r}. Leave "
                f"model.lora.{field} out, or start without model.lora.path."
            )
    if "dropout" not in lora.model_fields_set:
        values["dropout"] = config.lora_dropout
    return lora.model_copy(update=values)


def resolve_model(settings: ModelSettings) -> ModelSettings:
    """Return a model's settings with its adapter resolved; see `resolve_adapter`.

    Raises `RunError` also when an adapter is to be exported for a base model that no folder holds.
    """
    if settings.lora is None:
        return settings
    if settings.lora.export == "adapter" and settings.path in BLANKS:
        raise RunError(f"model.lora.export: an adapter needs a saved base model, and {settings.path!r} is random. Use merged.")
    return settings.model_copy(update={"lora": resolve_adapter(settings.lora)})


def base_of_adapter(path: str) -> str | None:
    """Return the base model that an adapter's folder names; None if the folder holds no adapter, or a model beside it."""
    folder = Path(path).expanduser()
    if not (folder / "adapter_config.json").is_file() or (folder / "config.json").is_file():
        return None
    return _read_adapter(path).base_model_name_or_path


def add_lora(model: PreTrainedModel, lora: LoraSettings, seed: int) -> PreTrainedModel:
    """Return the model wrapped with LoRA adapters: those of `lora.path`, or new ones initialised from `seed`.

    Raises `RunError` when peft is not installed, no module matches `target_modules`, or the adapter does not fit the model.
    """
    lora = resolve_adapter(lora)
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise _missing_peft() from error
    if lora.path is None:
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
        )
    else:
        config = _read_adapter(lora.path)
        config.lora_dropout, config.inference_mode, config.init_lora_weights = lora.dropout, False, True
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise RunError(f"model.lora: {error}. Check model.lora.target_modules.") from error
    if model.dtype == torch.bfloat16:
        # Products with float32 adapters would be a layer's slowest on a GPU; the optimizer keeps float32 copies of narrow ones.
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(model.dtype)
    _untie(model, ends)
    if lora.path is not None and next(model.parameters()).device.type != "meta":
        _load_weights(adapted, lora.path)
    return cast("PreTrainedModel", adapted)  # the wrapper passes every attribute of the model inside on


def unwrap_lora(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a LoRA model; return any other model unchanged."""
    inner = cast("PeftModel", model).get_base_model() if hasattr(model, "peft_config") else model
    return cast("PreTrainedModel", inner)


def _untie(model: PreTrainedModel, ends: tuple[nn.Module, nn.Module]) -> None:
    """Give an adapted head, or adapted embeddings, a weight of their own, so that a merged adapter changes nothing else.

    Raises `RunError` when an adapted layer shares its weight with any other layer: no export could tell the two apart.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = dict(model.named_modules(remove_duplicate=False))
    owners: dict[int, list[str]] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for name, layer in modules.items():
        if not isinstance(layer, BaseTunerLayer):
            continue
        base = cast("nn.Linear | nn.Embedding", layer.get_base_layer())
        shared = [owner for owner in owners.get(id(base.weight), ()) if owner != f"{name}.base_layer"]
        if not shared:
            continue
        if base not in ends or len(shared) > 1 or modules[shared[0]] not in ends:
            raise RunError(
                f"model.lora.target_modules: {name!r} shares its weight with {shared[0].removesuffix('.base_layer')!r}, so a "
                "merged adapter would change both. Name target modules that have weights of their own."
            )
        owners[id(base.weight)].remove(f"{name}.base_layer")
        base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


def _read_adapter(path: str) -> LoraConfig:
    """Return the configuration of the adapter in a folder."""
    try:
        from peft import LoraConfig, PeftConfig
    except ImportError as error:
        raise _missing_peft() from error
    folder = Path(path).expanduser()
    for file in ("adapter_config.json", _WEIGHTS):
        if not (folder / file).is_file():
            raise RunError(f"model.lora.path: {path!r} holds no {file}. Give a folder as peft's save_pretrained writes it.")
        plain_file(folder, file, (".json", ".safetensors"), "model.lora.path")
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise RunError(f"model.lora.path: {path!r} cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise RunError(f"model.lora.path: {path!r} holds an adapter of type {config.peft_type!r}. Only LoRA can be trained.")
    for option, allowed in _PLAIN.items():
        value = getattr(config, option, None)
        if not any(value is each or value == each for each in (*allowed, None)):
            raise RunError(
                f"model.lora.path: the adapter in {path!r} has {option}={value!r}. Only plain LoRA can be trained and merged "
                f"({option}={allowed[0]!r})."
            )
    return config


def _load_weights(adapted: nn.Module, path: str) -> None:
    from peft.utils.save_and_load import set_peft_model_state_dict

    try:
        weights = load_file(Path(path).expanduser() / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RunError(f"model.lora.path: the weights in {path!r} cannot be read: {error}") from error
    if whole := sorted(name for name in weights if ".lora_" not in name):
        raise RunError(
            f"model.lora.path: {path!r} also holds whole weights, first {whole[0]!r}. Save it with save_embedding_layers=False."
        )
    try:
        report: Any = set_peft_model_state_dict(adapted, weights)  # peft does not declare it
    except (RuntimeError, KeyError) as error:
        raise RunError(
            f"model.lora.path: the adapter in {path!r} does not fit the model: {' '.join(str(error).split())[:300]} Set "
            "model.path to the model that it was trained with."
        ) from error
    lacking = sorted([*report.unexpected_keys, *(name for name in report.missing_keys if ".lora_" in name)])
    if lacking:
        raise RunError(
            f"model.lora.path: the adapter in {path!r} does not fit the model: {len(lacking)} tensors are only on one side, "
            f"first {lacking[0]!r}. Set model.path to the model that it was trained with."
        )


def _missing_peft() -> RunError:
    return RunError('model.lora needs peft, which is not installed. Run: pip install "rosd-kit[lora]"')
