"""rosd-kit: on-policy self-distillation as recipes of interchangeable parts.

`import rosd_kit as rk` is the one import that a plugin needs. Names are looked up when they are first used, so that
importing the package alone loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosd_kit.components.localizers.weights import everywhere, from_character, nowhere
    from rosd_kit.components.objectives.policy_gradient import PolicyGradient
    from rosd_kit.components.reflectors.tutor import Tutor
    from rosd_kit.components.teachers.frozen import initial_expert
    from rosd_kit.components.verifiers.function import verifier
    from rosd_kit.contracts import (
        API_VERSION,
        SLOTS,
        Component,
        Config,
        Context,
        Correction,
        Demonstration,
        Divergence,
        Expert,
        Gate,
        Generate,
        Localizer,
        LossParts,
        Objective,
        Projection,
        Reflector,
        RolloutEngine,
        Site,
        Support,
        Task,
        Teacher,
        TokenScores,
        Verifier,
    )
    from rosd_kit.errors import EngineError, PluginError, RecipeError, RosdError, RunError, did_you_mean
    from rosd_kit.model.student import Student
    from rosd_kit.plugins.hookspecs import hookimpl
    from rosd_kit.text.budget import fit
    from rosd_kit.text.quotes import find_quote
    from rosd_kit.text.sentences import sentence_start
    from rosd_kit.text.spans import decode_with_spans
    from rosd_kit.types import (
        Case,
        Completion,
        DistillSample,
        FinishReason,
        FirstError,
        GateDecision,
        GenerateRequest,
        Group,
        Message,
        Passed,
        Problem,
        Prompt,
        Reflection,
        Rollout,
        SampleScores,
        Sampling,
        Section,
        StepBatch,
        TeacherView,
        TokenWeights,
        Trace,
        Verdict,
        View,
        Weights,
    )

    __version__: str

__all__ = [
    "API_VERSION",
    "SLOTS",
    "Case",
    "Completion",
    "Component",
    "Config",
    "Context",
    "Correction",
    "Demonstration",
    "DistillSample",
    "Divergence",
    "EngineError",
    "Expert",
    "FinishReason",
    "FirstError",
    "Gate",
    "GateDecision",
    "Generate",
    "GenerateRequest",
    "Group",
    "Localizer",
    "LossParts",
    "Message",
    "Objective",
    "Passed",
    "PluginError",
    "PolicyGradient",
    "Problem",
    "Projection",
    "Prompt",
    "RecipeError",
    "Reflection",
    "Reflector",
    "Rollout",
    "RolloutEngine",
    "RosdError",
    "RunError",
    "SampleScores",
    "Sampling",
    "Section",
    "Site",
    "StepBatch",
    "Student",
    "Support",
    "Task",
    "Teacher",
    "TeacherView",
    "TokenScores",
    "TokenWeights",
    "Trace",
    "Tutor",
    "Verdict",
    "Verifier",
    "View",
    "Weights",
    "__version__",
    "decode_with_spans",
    "did_you_mean",
    "everywhere",
    "find_quote",
    "fit",
    "from_character",
    "hookimpl",
    "initial_expert",
    "nowhere",
    "sentence_start",
    "verifier",
]

_HOMES = (
    "plugins.hookspecs",
    "errors",
    "types",
    "contracts",
    "text.budget",
    "text.quotes",
    "text.sentences",
    "text.spans",
    "components.localizers.weights",
    "components.reflectors.tutor",
    "components.objectives.policy_gradient",
    "components.teachers.frozen",
    "components.verifiers.function",
    "model.student",
)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, the first time it is asked for."""
    if name == "__version__":
        return _version()
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    from rosd_kit.plugins.deprecations import renamed_name

    if (today := renamed_name(name)) is not None:
        return __getattr__(today)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rosd-kit")
    except PackageNotFoundError:
        return "0+checkout"
