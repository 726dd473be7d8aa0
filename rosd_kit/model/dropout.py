"""Turns off the randomness of a model's own configuration: dropout, layer drop, and the noise of routers.

Rollouts are sampled without it, so a model that is scored with it looks off-policy: importance ratios differ from 1, and
gates and clips act on noise. LoRA's dropout is added later and is not touched. Does not know losses.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


_DROPOUT = re.compile("drop")
#: Noise in routers. Some routers read the same number while sampling, so it stays; their modules never enter training mode.
_NOISE = re.compile("jitter")
#: Options of heads that a causal language model does not have.
_OTHER_HEADS = re.compile("classifier|summary")
_DROPOUT_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def disable_dropout(model: PreTrainedModel) -> str | None:
    """Set every dropout probability of a transformers model to 0; return what it had, or None if nothing.

    `model.config` keeps its values, so that an exported model has them again. Router noise is named too; `enter_training` keeps
    it off.
    """
    active = False
    for module in model.modules():
        names = ["p"] if isinstance(module, _DROPOUT_MODULES) else [name for name in vars(module) if _DROPOUT.search(name)]
        for name in names:
            if _is_positive(getattr(module, name)):
                setattr(module, name, 0.0)
                active = True
    options = _options(model.config.get_text_config())
    if any(_DROPOUT.search(name) for name in options):
        _hide_options(model)
    noisy = any(_is_noisy(module) for module in model.modules())
    described = ", ".join(f"{name}={value:g}" for name, value in options.items() if active or _NOISE.search(name))
    return (described or "dropout") if active or (noisy and described) else None


def enter_training(model: nn.Module, *, dropout: bool) -> None:
    """Put a model into training mode; without `dropout`, its routers keep routing as they do while sampling."""
    model.train()
    if not dropout:
        for module in model.modules():
            if _is_noisy(module):
                module.training = False


def _hide_options(model: PreTrainedModel) -> None:
    """Give the modules that may read dropout from the configuration one without it, the same for all of them."""
    configs = [model.config, model.config.get_text_config()]
    quiet = [copy.deepcopy(config) for config in configs]
    for config in quiet:
        for name in _options(config):
            if _DROPOUT.search(name):
                setattr(config, name, 0.0)
    for module in model.modules():
        own = getattr(module, "config", None)
        if module is not model and own is not None:
            quieter = next((new for old, new in zip(configs, quiet, strict=True) if old is own), own)
            module.config = quieter  # type: ignore[assignment]


def _options(config: PretrainedConfig) -> dict[str, float]:
    """Return the configuration's options that are above 0, such as `attention_dropout`."""
    named = {name: value for name, value in vars(config).items() if _DROPOUT.search(name) or _NOISE.search(name)}
    return {name: value for name, value in named.items() if _is_positive(value) and not _OTHER_HEADS.search(name)}


def _is_noisy(module: nn.Module) -> bool:
    return any(_NOISE.search(name) for name in vars(module))


def _is_positive(value: object) -> bool:
    return isinstance(value, float) and value > 0
