"""What has another name than in an earlier version: tables of old and new names, and what makes the old ones still work.

The tables cover modules, names in modules, fields, recipe options, metrics, hooks and methods of slots. `docs/moved.md` is
written from them. A use of an old name works and raises a `RenamedWarning` that says what to write. This module imports
nothing else of the kit and knows neither plugins (`plugins/deprecations.py` adapts those) nor how recipes are read.

To rename something: raise `API_VERSION` in version.py, add a line to one of the tables, and say in which version the old
name stops working, at least two later. When that version comes, delete the line and raise `OLDEST_API`.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
_PREFIX = f"{__package__}."

#: The oldest `rosd_kit_api` that is still accepted.
OLDEST_API = 1


class RenamedWarning(DeprecationWarning):
    """Something is used under an old name that still works; the text says what to write instead."""


class RenamedOptionWarning(RenamedWarning):
    """The old name is in a recipe, a profile or an override; the text says in which."""


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """Something with another name since API version `since`; the old name works until version `until`, not in it.

    `values` maps old values of a field or option to new ones where those differ too.
    """

    old: str
    new: str
    since: int
    until: int
    values: Mapping[Any, Any] = field(default_factory=dict)

    def current(self, value: Any) -> Any:
        """Return what an old value is written as today."""
        return next((new for old, new in self.values.items() if old == value), value)

    def former(self, value: Any) -> Any:
        """Return what a value was written as before."""
        return next((old for old, new in self.values.items() if new == value), value)

    def __str__(self) -> str:
        values = "".join(f", and {new} for {old}" for old, new in self.values.items())
        return (
            f"{self.old} is called {self.new} since plugin API {self.since}; write {self.new}{values}. "
            f"The old name works until API {self.until}."
        )


def _renamed(since: int, until: int, names: Mapping[str, str], prefix: str = _PREFIX) -> dict[str, Renamed]:
    return {
        f"{prefix}{old}": Renamed(old=f"{prefix}{old}", new=f"{prefix}{new}", since=since, until=until)
        for old, new in names.items()
    }


#: Modules that moved, by their old names.
MODULES: dict[str, Renamed] = _renamed(
    2,
    4,
    {
        "ahead": "pipeline.prefetch",
        "asking": "pipeline.requests",
        "blame": "plugins.attribution",
        "boundary": "run.prompt_boundary",
        "compat": "plugins.deprecations",
        "components.contexts.building": "components.contexts.teacher_prompt",
        "disk": "files",
        "dryrun": "run.dry_run",
        "evaluation.command": "run.evaluate",
        "guarding": "faults",
        "hookspecs": "plugins.hookspecs",
        "interrupts": "run.interrupts",
        "loop": "run.loop",
        "metrics": "run.step_metrics",
        "micro.base": "model.micro.base",
        "micro.language": "model.micro.tokenizer",
        "micro.model": "model.micro.model",
        "micro.prompts": "components.tasks.lesson_prompts",
        "observers": "run.trackers",
        "observers.trackers": "run.trackers",
        "oracle": "pipeline.oracle",
        "parts": "recipe.built",
        "plugin_checks": "plugins.validation",
        "plugin_files": "plugins.fingerprint",
        "plugin_imports": "plugins.timed_import",
        "recipe.checks": "recipe.validation",
        "recipe.tasks": "recipe.task_presets",
        "registry": "plugins.registry",
        "resuming": "run.resume",
        "rundir": "run.folder",
        "samples": "run.sample_records",
        "sglang.agreement": "sglang.logprob_check",
        "sglang.building": "sglang.factory",
        "sglang.carriers": "sglang.weight_transfer",
        "sglang.carriers.base": "sglang.weight_transfer.base",
        "sglang.carriers.disk": "sglang.weight_transfer.disk",
        "sglang.carriers.distributed": "sglang.weight_transfer.distributed",
        "sglang.carriers.scratch": "sglang.weight_transfer.scratch",
        "sglang.carriers.tensor": "sglang.weight_transfer.tensor",
        "sglang.checks": "sglang.probe",
        "sglang.guard": "sglang.watchdog",
        "sglang.launching": "sglang.launch",
        "sglang.member": "sglang.replica",
        "sglang.threads": "sglang.event_loop",
        "signals": "run.collapse_warnings",
        "summary": "run.summary",
        "sweep.cells": "sweep.combinations",
        "sweep.owner": "sweep.lease",
        "sweep.sweeper": "sweep.scheduler",
        "sweep.trial": "sweep.worker",
        "sweep.trials": "sweep.trial_id",
        "tally": "pipeline.counters",
        "testing.building": "testing.build",
        "testing.checking": "testing.check",
        "testing.comparing": "testing.difference",
        "testing.trials": "testing.exercise",
        "train": "training",
        "train.accumulating": "training.grad_accumulation",
        "train.adapting": "model.lora",
        "train.batch": "training.token_weights",
        "train.beginnings": "model.prefix_cache",
        "train.branching": "model.tree_attention",
        "train.checkpoint": "training.checkpoint",
        "train.chunks": "training.chunked_loss",
        "train.clock": "training.timer",
        "train.head": "model.split",
        "train.layout": "model.packing",
        "train.loading": "model.loading",
        "train.optimizer": "training.optimizer",
        "train.prompts": "model.chat",
        "train.ranks": "parallel.ranks",
        "train.recomputing": "model.activation_checkpointing",
        "train.refining": "training.refine_weights",
        "train.report": "training.loss_report",
        "train.scoring": "training.step_loss",
        "train.sharding": "parallel.fsdp",
        "train.sharing": "training.balancing",
        "train.student": "model.student",
        "train.teaching": "training.teacher",
        "train.tree": "model.prefix_tree",
        "train.weights": "model.export",
        "vitals": "evaluation.collapse_metrics",
        "workers": "sandbox",
        "workers.child": "sandbox.child",
        "workers.jail": "sandbox.jail",
        "workers.pool": "sandbox.pool",
        "workers.sandbox": "sandbox.sandbox",
        "workers.seccomp": "sandbox.seccomp",
    },
)

#: Names in modules, by the name of the old module and their own: the public ones, and others with the same meaning as before.
NAMES: dict[str, Renamed] = _renamed(
    2,
    4,
    {
        "Expert": "TeacherModel",
        "Weights": "PolicyWeights",
        "fit": "fit_prompt",
        "initial_expert": "initial_teacher",
        "ahead.Ahead": "pipeline.prefetch.Prefetcher",
        "asking.Asker": "pipeline.requests.Requester",
        "asking.PromptWriter": "pipeline.requests.ReflectionRequests",
        "compat.OLDEST_API": "renames.OLDEST_API",
        "compat.Renamed": "renames.Renamed",
        "components.contexts.building.KEEP": "components.contexts.teacher_prompt.CUT_PRIORITY",
        "components.reflectors.tutor.told": "components.reflectors.self_reflector.conversation_text",
        "components.teachers.frozen.initial_expert": "components.teachers.frozen.initial_teacher",
        "components.verifiers.code.Trial": "components.verifiers.code.ProgramTest",
        "components.verifiers.code.read_trials": "components.verifiers.code.read_tests",
        "contracts.API_VERSION": "version.API_VERSION",
        "contracts.Expert": "contracts.TeacherModel",
        "evaluation.command.execute": "run.evaluate.evaluate_model",
        "loop.execute": "run.loop.run_recipe",
        "memory.estimate.Estimate": "memory.estimate.MemoryEstimate",
        "memory.estimate.estimate": "memory.estimate.estimate_memory",
        "parts.Parts": "recipe.built.BuiltComponents",
        "pipeline.Pipeline": "pipeline.pipeline.Pipeline",
        "plugins.PluginManager": "plugins.manager.PluginManager",
        "plugins.PluginReport": "plugins.manager.PluginReport",
        "plugins.Status": "plugins.manager.Status",
        "plugins.VARIABLE": "plugins.manager.VARIABLE",
        "rundir.RunDir": "run.folder.RunFolder",
        "rundir.finite": "files.finite",
        "sglang.options.Check": "sglang.options.ProbeSettings",
        "sglang.protocol.Fault": "sglang.protocol.ServerFault",
        "signals.Check": "run.collapse_warnings.Symptom",
        "signals.SignalWatch": "run.collapse_warnings.CollapseWatch",
        "sweep.command.execute": "sweep.command.run_sweep",
        "sweep.estimate.estimate": "sweep.estimate.estimate_time",
        "sweep.launchers.Task": "sweep.launchers.Command",
        "sweep.launchers.base.Task": "sweep.launchers.base.Command",
        "tally.Tally": "pipeline.counters.Counters",
        "testing.trials.Trial": "testing.exercise.Exercise",
        "testing.trials.trial_of": "testing.exercise.exercise_of",
        "text.budget.fit": "text.budget.fit_prompt",
        "text.tags.strip_thinking": "text.thinking.strip_thinking",
        "train.accumulating.gradient": "training.grad_accumulation.ensure_grad",
        "train.accumulating.in_place": "training.grad_accumulation.accumulate_in_place",
        "train.adapting.with_lora": "model.lora.add_lora",
        "train.batch.sent": "model.tensors.to_device",
        "train.batch.take": "model.tensors.select_rows",
        "train.batch.weigh": "training.token_weights.compute_weights",
        "train.branching.as_now": "model.tree_attention.capture_tree",
        "train.branching.attending_by": "model.tree_attention.use_kernel",
        "train.checkpoint.Parts": "training.checkpoint.StateTensors",
        "train.clock.Clock": "training.timer.Timer",
        "train.head.split": "model.split.split_model",
        "train.layout.Mode": "model.packing.LayoutMode",
        "train.layout.Text": "model.packing.TokenSequence",
        "train.layout.idle_layout": "model.packing.dummy_layout",
        "train.layout.lay_out": "model.packing.build_layout",
        "train.loading.pinned": "model.loading.pin_revision",
        "train.prompts.is_hostile": "model.chat.contains_control_tokens",
        "train.recomputing.recompute": "model.activation_checkpointing.enable_checkpointing",
        "train.refining.refined": "training.refine_weights.refine_weights",
        "train.sharding.collect": "parallel.fsdp.gather_to_main",
        "train.sharding.gathered": "parallel.fsdp.unsharded",
        "train.sharding.local": "parallel.fsdp.local_shard",
        "train.sharding.piece": "parallel.fsdp.shard_like",
        "train.sharding.whole": "parallel.fsdp.full_tensor",
        "train.sharing.in_step": "training.balancing.equalize_passes",
        "train.sharing.share_out": "training.balancing.assign_to_ranks",
        "train.tree.common": "model.prefix_tree.common_prefix_length",
        "train.tree.grow": "model.prefix_tree.build_tree",
        "train.tree.size": "model.prefix_tree.tree_size",
        "types.Weights": "types.PolicyWeights",
        "vitals.vital_signs": "evaluation.collapse_metrics.collapse_metrics",
    },
)

#: Fields of classes that `accepts_old_fields` marks, and of the `run` that observers get.
FIELDS: dict[str, Renamed] = {
    "rosd_kit.Section.keep": Renamed(
        old="rosd_kit.Section.keep", new="rosd_kit.Section.cut_priority", since=2, until=4, values={0: None}
    ),
    **_renamed(2, 4, {"model.packing.Layout.places": "model.packing.Layout.state_indices"}),
    **_renamed(2, 4, {"folder": "path", "student": "policy"}, prefix="run."),
}

#: Options of recipes by their dotted paths. Those of components are listed by their class, in `Config.renamed_options`.
OPTIONS: dict[str, Renamed] = _renamed(2, 4, {"sampling.lookahead": "sampling.prefetch"}, prefix="")

#: Keys of `metrics.jsonl`.
METRICS: dict[str, Renamed] = _renamed(2, 4, {"time/ahead": "time/prefetch"}, prefix="")

#: Hooks, with arguments of the same names.
HOOKS: dict[str, Renamed] = {}
#: Methods and class attributes of the slots' base classes, by slot.
METHODS: dict[str, dict[str, Renamed]] = {}


def warn(text: object, category: type[RenamedWarning] = RenamedWarning) -> None:
    """Warn at the line outside this package that made the call leading here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "<unknown>")
    warnings.warn_explicit(str(text), category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def with_current_metrics(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of `metrics.jsonl` with the current keys."""
    return {METRICS[key].new if key in METRICS else key: value for key, value in record.items()}


def accepts_old_fields(known_as: str) -> Callable[[type[T]], type[T]]:
    """Let a dataclass be constructed and read with the old names of its fields; `known_as` is its name in `FIELDS`."""
    prefix = f"{known_as}."
    renamed = {old.removeprefix(prefix): entry for old, entry in FIELDS.items() if old.startswith(prefix)}

    def accept(cls: type[T]) -> type[T]:
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: T, *values: Any, **fields: Any) -> None:
            for old in fields.keys() & renamed.keys():
                warn(renamed[old])
                fields[_last(renamed[old].new)] = renamed[old].current(fields.pop(old))
            construct(self, *values, **fields)

        cls.__init__ = __init__  # type: ignore[assignment,method-assign]
        for old, entry in renamed.items():
            setattr(cls, old, _old_field(entry))
        return cls

    return accept


def renamed_name(module: str, name: str) -> Any:
    """Return what a module's old name stands for, with a warning; raises `AttributeError` where there was never such a name."""
    entry = NAMES.get(f"{module}.{name}")
    if entry is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn(entry)
    home, _, new = entry.new.rpartition(".")
    return getattr(import_module(home), new)


def install() -> None:
    """Let old modules be imported, and old names be found in modules that are still there."""
    sys.meta_path.insert(0, _OldNames())


class _OldNames(MetaPathFinder):
    """Finds the modules that moved, and adds their old names to those that did not."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX):  # asked at every import of the process
            return None
        if name in MODULES:
            is_package = any(other.startswith(f"{name}.") for other in MODULES)
            return ModuleSpec(name, _OldModuleLoader(), is_package=is_package)
        if any(old.rpartition(".")[0] == name for old in NAMES):
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module = functools.partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
            return spec
        return None


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    module.__getattr__ = functools.partial(renamed_name, module.__name__)  # type: ignore[method-assign]
    execute(module)


class _OldModule(ModuleType):
    """Stands for a module that moved: takes every name from where it is now.

    Called, it is the function of `rosd_kit` with the same name: `rosd_kit.train` is both an old package and a function.
    """

    def __getattr__(self, name: str) -> Any:
        if f"{self.__name__}.{name}" in NAMES:
            return renamed_name(self.__name__, name)
        if f"{self.__name__}.{name}" in MODULES:
            return import_module(f"{self.__name__}.{name}")
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(MODULES[self.__name__].new), name)
        warn(MODULES[self.__name__])
        return value

    def __call__(self, *values: Any, **options: Any) -> Any:
        return getattr(import_module("rosd_kit.api"), _last(self.__name__))(*values, **options)


class _OldModuleLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if not hasattr(module, "__path__"):  # a package is also imported on the way to its modules
            warn(MODULES[module.__name__])


def _old_field(entry: Renamed) -> property:
    def read(self: Any) -> Any:
        warn(entry)
        return entry.former(getattr(self, _last(entry.new)))

    return property(read, doc=str(entry))


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _is_internal(filename: str) -> bool:
    """Return whether a frame of this file only passes a use of an old name on."""
    ours_or_import = filename.startswith((f"{Path(__file__).parent}/", "<frozen importlib"))
    return ours_or_import or filename.endswith(("/importlib/__init__.py", "/dataclasses.py"))
