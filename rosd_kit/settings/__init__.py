"""The core sections of a recipe: model, sampling, optimizer, evaluation, checkpoints and so on.

Options of components live with the components. Each value's docstring gives its meaning and unit; the JSON Schema shows it.
"""

from rosd_kit.settings.core import CoreSettings
from rosd_kit.settings.model import ChatRole, ChatSettings, LoraSettings, ModelSettings, TemplateOptions
from rosd_kit.settings.records import CheckpointSettings, SamplesSettings, TrackingSettings, WatchSettings
from rosd_kit.settings.sampling import EvaluationSettings, SamplingSettings, TopK
from rosd_kit.settings.training import BatchSettings, OptimizerSettings, ParallelSettings, Share

__all__ = [
    "BatchSettings",
    "ChatRole",
    "ChatSettings",
    "CheckpointSettings",
    "CoreSettings",
    "EvaluationSettings",
    "LoraSettings",
    "ModelSettings",
    "OptimizerSettings",
    "ParallelSettings",
    "SamplesSettings",
    "SamplingSettings",
    "Share",
    "TemplateOptions",
    "TopK",
    "TrackingSettings",
    "WatchSettings",
]
