"""Builds a run: its folder, components, student, engine and optimizer, and the record of what it is made with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed

from rosd_kit.contracts import Site
from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.memory.recomputation import recomputation_of
from rosd_kit.model.loading import pin_revision
from rosd_kit.model.lora import resolve_model
from rosd_kit.model.split import mark_wrong_layouts, split_model
from rosd_kit.model.split_check import check_split
from rosd_kit.model.student import Student
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.open_groups import OpenGroups
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.pipeline.prefetch import Prefetcher
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, build_components
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.run.folder import RECIPE, RunFolder
from rosd_kit.run.given import GivenComponents
from rosd_kit.run.identity import Identity, data_digests
from rosd_kit.run.interrupts import Interrupts
from rosd_kit.run.recipe_file import write_recipe
from rosd_kit.run.reporter import Reporter
from rosd_kit.run.state import Run, check_readable, train_problems
from rosd_kit.seeds import stable_seed
from rosd_kit.training.checkpoint_writer import CheckpointWriter
from rosd_kit.training.optimizer import Optimizer


def open_folder(ranks: Ranks, out: Path, name: str, *, exactly: bool, resume: Path | None) -> RunFolder:
    """Return the run's folder; the main rank creates or locks it and broadcasts its path.

    Without `exactly`, a number is appended to `name`. Raises `RunError` if the folder cannot be created or locked.
    """
    folder = None
    try:
        if ranks.is_main:
            folder = RunFolder.open(resume) if resume else RunFolder.create(out, name if exactly else None, name)
    finally:
        path = ranks.from_main(folder.path if folder is not None else None)
    if path is None:
        raise RunError("the main process could not take the run's folder; its own message says why.")
    return folder or RunFolder.watch(path)


def prepare(
    recipe: Recipe,
    ranks: Ranks,
    folder: RunFolder,
    plugins: PluginManager,
    display: Display,
    given: GivenComponents,
    run_id: str,
) -> Run:
    """Build the components, load the student, start the engine and connect them.

    What can be wrong is tried in the order of its cost: data, then model and optimizer, then servers.
    """
    set_seed(stable_seed(recipe.seed, "run") % 2**32)
    components = build_components(recipe, plugins.registry, given.by_slot)
    display.phase("loading")
    display.waiting(f"loading the problems of task {recipe.task.name} ...")
    problems = train_problems(recipe, components, 0)
    suites = components.task.suites(count=recipe.evaluation.problems, seed=recipe.evaluation.seed)
    recipe = recipe.model_copy(update={"model": ranks.from_main(resolve_model(pin_revision(recipe.model)))})
    recomputation = recomputation_of(recipe, components, ranks)
    if recomputation is not None:
        display.waiting(f"model.gradient_checkpointing=auto {recomputation}")
    display.waiting(f"loading the model {recipe.model.path} ...")
    student = _load_student(recomputation.applied_to(recipe) if recomputation else recipe, components, ranks)
    check_readable(student, problems, suites)
    components.teacher.attach(student)
    _check_teacher(recipe, components, student)
    optimizer = Optimizer(student.model, recipe.optimizer, steps=recipe.steps)
    _start_engine(recipe, components, student, ranks, folder, display, plugins.registry)
    shared = ranks if ranks.count > 1 else None
    pipeline = Pipeline.of(recipe, components, student, on_phase=display.phase, ranks=shared)
    return Run(
        recipe=recipe,
        ranks=ranks,
        folder=folder,
        student=student,
        components=components,
        optimizer=optimizer,
        pipeline=pipeline,
        prefetcher=_prefetcher(recipe, components, pipeline, ranks),
        open_groups=_open_groups(recipe, components),
        checkpoints=CheckpointWriter(
            folder.checkpoints,
            ranks,
            keep=recipe.checkpoint.keep,
            background=ranks.device.type != "cpu" if recipe.checkpoint.background is None else recipe.checkpoint.background,
        ),
        identity=_identity(run_id, ranks, student, components),
        reporter=Reporter(display=display, plugins=plugins, watch=_watch(recipe, components)),
        interrupts=Interrupts(ranks),
    )


def _watch(recipe: Recipe, components: BuiltComponents) -> CollapseWatch:
    return CollapseWatch(
        recipe.watch,
        recipe.steps,
        truncated=components.verifier.config.truncated,
        drops_truncated=components.gate.config.truncated != "keep",
    )


def _identity(run_id: str, ranks: Ranks, student: Student, components: BuiltComponents) -> Identity:
    """Return what the checkpoints of this run are marked with; the main rank reads the data."""
    digests = data_digests(components.task.data_files()) if ranks.is_main else {}
    run_id, digests = ranks.from_main((run_id, digests))
    return Identity(run=run_id, model=student.fingerprint, data=digests)


def _start_engine(
    recipe: Recipe,
    components: BuiltComponents,
    student: Student,
    ranks: Ranks,
    folder: RunFolder,
    display: Display,
    registry: Registry,
) -> None:
    """Start the engine. The recipe is written before, so that a run that is killed during the start can be resumed.

    If the engine cannot start and has left nothing in the folder, the recipe goes again, and with it the claim to the name.
    """
    file = folder.path / RECIPE
    is_new = ranks.is_main and not file.is_file()
    if is_new:
        write_recipe(folder, recipe, registry, display.warning)
    try:
        with student.sampler.gathered(initial=components.samples_initial):
            components.rollout.start(student.sampler, _site(ranks, folder, display, components))
    except Exception:
        if is_new and all(entry.name.startswith(".") or entry == file for entry in folder.path.iterdir()):
            file.unlink(missing_ok=True)
        raise


def _load_student(recipe: Recipe, components: BuiltComponents, ranks: Ranks) -> Student:
    student = Student.load(
        recipe.model,
        keep_initial=any(component.wants_initial() for component in components),
        keep_sampler=recipe.sampling.prefetch > 0,
        seed=recipe.seed,
        ranks=ranks,
    )
    student.check_layout(recipe.batch.layout)
    return student


def _check_teacher(recipe: Recipe, components: BuiltComponents, student: Student) -> None:
    """Check the layout with the teacher's networks of other architectures; those of the student's are laid out alike."""
    known = split_model(student.model)
    with components.teacher.scoring(student) as networks:
        for network in networks:
            if type(split_model(network.model).backbone) is type(known.backbone):
                mark_wrong_layouts(network.model, known.wrong_layouts)
            else:
                with network.active() as model:
                    check_split(model, recipe.batch.layout, pad_id=student.pad_id)


def _open_groups(recipe: Recipe, components: BuiltComponents) -> OpenGroups | None:
    if recipe.sampling.extra_problems == 0:
        return None
    wanted = recipe.problems_per_step + recipe.sampling.extra_problems
    return OpenGroups(partial(train_problems, recipe, components), wanted=wanted, size=recipe.group_size)


def _prefetcher(recipe: Recipe, components: BuiltComponents, pipeline: Pipeline, ranks: Ranks) -> Prefetcher:
    """Return a prefetcher with a silent pipeline of its own, which talks to the other ranks in a separate process group."""
    enabled = recipe.sampling.prefetch > 0
    others = ranks.with_new_group() if enabled and ranks.count > 1 else None
    silent = replace(pipeline, on_phase=lambda phase: None, ranks=others)
    return Prefetcher(lambda step: silent.step(train_problems(recipe, components, step), step), enabled=enabled)


def _site(ranks: Ranks, folder: RunFolder, display: Display, components: BuiltComponents) -> Site:
    """Return where this rank's engine keeps its files: the run's folder, or a subfolder per further rank."""
    path = folder.path if ranks.is_main else folder.path / f"rank-{ranks.rank}"
    return Site(
        path,
        display.waiting,
        rank=ranks.rank,
        count=ranks.count,
        local=ranks.local_rank,
        neighbours=ranks.local_count,
        samples_initial=components.samples_initial,
    )


def record_environment(run: Run, given: GivenComponents) -> None:
    """Write down what the run is made with; warn of what has changed since it began."""
    reporter = run.reporter
    changed = run.folder.write_environment(
        run_id=run.identity.run,
        plugins=[f"{report} {report.fingerprint}".rstrip() for report in reporter.plugins.reports],
        model=run.student.fingerprint,
        device=str(run.student.device),
        threads=torch.get_num_threads(),
        given_components=given.classes,
    )
    if changed:
        reporter.warn(f"changed since the run began, so it may not continue bit for bit: {'; '.join(changed)}")
    reporter.warn_new(run.student.notes())


def describe(run: Run) -> dict[str, str]:
    """Return the facts that a display shows at the start."""
    recipe, student = run.recipe, run.student
    size = sum(p.numel() for p in student.model.parameters())
    processes = f" in {run.ranks.count} processes ({run.ranks.mode})" if run.ranks.count > 1 else ""
    return {
        "model": f"{recipe.model.path}, {size / 1e6:.2f}M parameters on {student.device}{processes}",
        "components": ", ".join(f"{kind}={choice.name}" for kind, choice in recipe.choices()),
        "each step": f"{recipe.problems_per_step} problems x {recipe.group_size} rollouts, lr {recipe.optimizer.lr:g}",
        "evaluation": _describe_evaluation(run),
    }


def _describe_evaluation(run: Run) -> str:
    settings, suites = run.recipe.evaluation, sorted(run.components.task.in_domain())
    if settings.problems == 0:
        return f"none, because evaluation.problems is 0{f'; {suites[0]} is not measured' if suites else ''}"
    every = f", every {settings.every} steps" if settings.every else ""
    return f"{settings.problems} problems per suite x {settings.samples} samples, before and after{every}"
