"""The whole training run, from a recipe to a table: read it top to bottom.

It knows the slots' order and nothing of any method: what is sampled, gated, diagnosed and distilled is the components' affair.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed

from rosd_kit.contracts import Site
from rosd_kit.display import Display, RunSummary
from rosd_kit.errors import RunError
from rosd_kit.evaluation.suites import SuiteResult, evaluate_suites
from rosd_kit.faults import Faults
from rosd_kit.model.loading import pinned
from rosd_kit.model.split import check_split
from rosd_kit.model.student import Student
from rosd_kit.parallel.fsdp import collect
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.pipeline.prefetch import Prefetcher
from rosd_kit.plugins.attribution import add_culprit
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, build_components, load_recipe, to_yaml
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.collapse_warnings import CollapseWatch
from rosd_kit.run.folder import RunFolder
from rosd_kit.run.interrupts import interruptible
from rosd_kit.run.resume import check_same
from rosd_kit.run.sample_records import Trained, sample_records
from rosd_kit.run.step_metrics import reported, speeds, staleness, worst
from rosd_kit.run.summary import next_steps, summarise
from rosd_kit.seeds import stable_seed
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint, restore_random, save_checkpoint
from rosd_kit.training.optimizer import Optimizer
from rosd_kit.training.refine_weights import refined
from rosd_kit.training.step_loss import backward_step
from rosd_kit.types import Problem, StepBatch

Baseline = Callable[["Run", Callable[[], tuple[SuiteResult, ...]]], tuple[SuiteResult, ...]]
"""Given a run of one process and how to measure its student before training, returns what was found, now or earlier."""


@dataclass(kw_only=True)
class Run:
    """A run in progress, as observers see it. `step` counts finished optimizer steps, `saved` those of the newest checkpoint.

    Of several processes, `ranks`, all go through the same steps; the main one alone writes, shows and tells observers.
    `interrupted` is what this process was told, `stopping` what all have agreed on.
    """

    recipe: Recipe
    ranks: Ranks
    folder: RunFolder
    student: Student
    components: BuiltComponents
    optimizer: Optimizer
    pipeline: Pipeline
    prefetcher: Prefetcher
    plugins: PluginManager
    display: Display
    watch: CollapseWatch
    baseline: Baseline | None = None
    step: int = 0
    saved: int = 0
    interrupted: bool = False
    stopping: bool = False
    warnings: list[str] = field(default_factory=list)


def run_recipe(
    recipe: Recipe,
    *,
    plugins: PluginManager,
    out: Path,
    name: str | None,
    resume: Path | None,
    display: Display,
    baseline: Baseline | None = None,
) -> RunSummary | None:
    """Run a recipe to its last step and return what came of it; None when it was stopped before.

    With `resume`, go on in that folder from its newest checkpoint; `baseline` may know the evaluation before training.
    Raises `RosdError` for everything that a user can mend; what was saved until then stays.
    """
    ranks = Ranks.start(recipe.parallel, recipe.model.device)
    with ranks.failing():
        return _run_recipe(recipe, ranks, plugins, out, name, resume, display if ranks.is_main else Display(), baseline)


def _run_recipe(
    recipe: Recipe,
    ranks: Ranks,
    plugins: PluginManager,
    out: Path,
    name: str | None,
    resume: Path | None,
    display: Display,
    baseline: Baseline | None,
) -> RunSummary | None:
    began = time.monotonic()
    folder = _open(ranks, out, name or recipe.name, exactly=name is not None, resume=resume)
    run = None
    try:
        if resume:
            check_same(load_recipe(folder.path / "recipe.yaml", registry=plugins.registry), recipe)
        run = _prepare(recipe, ranks, folder, plugins, display)
        run.baseline = baseline
        if resume:
            _resume(run)
        folder.write_text("recipe.yaml", to_yaml(run.recipe))
        _note_environment(run)
        # A launcher passes on to its processes what it is sent, which is SIGTERM where a machine is taken away.
        signals = [signal.SIGINT, signal.SIGTERM] if ranks.count > 1 else [signal.SIGINT]
        with interruptible(partial(_interrupt, run), signals):
            return _train(run, began)
    except Exception as error:
        add_culprit(error, plugins.registry)
        raise
    finally:
        with ExitStack() as last:  # backwards, and each whatever becomes of those before it
            last.callback(folder.close)
            last.callback(display.close)
            if run is not None:
                last.callback(_notify, run, "rosd_kit_run_end")
                last.callback(run.components.rollout.close)
                last.callback(run.prefetcher.close)


def _open(ranks: Ranks, out: Path, name: str, *, exactly: bool, resume: Path | None) -> RunFolder:
    """Return the run's folder; the main process makes or takes it, and says to the others which it is."""
    folder = None
    try:
        if ranks.is_main:
            folder = RunFolder.open(resume) if resume else RunFolder.create(out, name if exactly else None, name)
    finally:
        path = ranks.from_main(folder.path if folder is not None else None)
    if path is None:
        raise RunError("the main process could not take the run's folder; its own message says why.")
    return folder or RunFolder.watch(path)


def _prepare(recipe: Recipe, ranks: Ranks, folder: RunFolder, plugins: PluginManager, display: Display) -> Run:
    """Build the parts, load the student, and introduce them to each other."""
    set_seed(stable_seed(recipe.seed, "run") % 2**32)
    components = build_components(recipe, plugins.registry)
    display.phase("loading")
    components.task.train_batch(step=0, count=1, seed=recipe.seed)  # before a model is loaded: bad data must fail first
    components.task.suites(count=recipe.evaluation.problems, seed=recipe.evaluation.seed)
    recipe = recipe.model_copy(update={"model": ranks.from_main(pinned(recipe.model))})
    keep_initial = any(component.wants_initial() for component in components)
    prefetch = recipe.sampling.prefetch > 0
    student = Student.load(recipe.model, keep_initial=keep_initial, keep_sampler=prefetch, seed=recipe.seed, ranks=ranks)
    check_split(student.model, recipe.batch.layout)
    components.teacher.attach(student)
    optimizer = Optimizer(student.model, recipe.optimizer, steps=recipe.steps)  # what it refuses is told before a server starts
    with student.sampler.gathered():
        components.rollout.start(student.sampler, _site(ranks, folder, display))
    pipeline = Pipeline(
        components=components,
        engine=components.rollout,
        encode=student.prompt_ids,
        sampling=recipe.sampling,
        group_size=recipe.group_size,
        seed=recipe.seed,
        on_phase=display.phase,
        ranks=ranks if ranks.count > 1 else None,
    )
    beside = replace(pipeline, on_phase=lambda phase: None, ranks=ranks.apart() if ranks.count > 1 else None)
    return Run(
        recipe=recipe,
        ranks=ranks,
        folder=folder,
        student=student,
        components=components,
        optimizer=optimizer,
        pipeline=pipeline,
        prefetcher=Prefetcher(lambda step: beside.step(_problems(recipe, components, step), step), enabled=prefetch),
        plugins=plugins,
        display=display,
        watch=CollapseWatch(recipe.watch, recipe.steps),
    )


def _site(ranks: Ranks, folder: RunFolder, display: Display) -> Site:
    """Return where this process's engine works: in the run's folder, or in one of its own in there."""
    own = folder.path if ranks.is_main else folder.path / f"rank-{ranks.rank}"
    return Site(own, display.waiting, ranks.rank, ranks.count, ranks.local, ranks.neighbours)


def _note_environment(run: Run) -> None:
    """Write down what the run is made with; say what is not as it was when the run began."""
    plugins = [f"{report} {report.fingerprint}".rstrip() for report in run.plugins.reports]
    changed = run.folder.write_environment(
        plugins=plugins,
        model=run.student.fingerprint,
        device=str(run.student.device),
        threads=torch.get_num_threads(),
    )
    if changed:
        _warn(run, f"changed since the run began, so it may not go on bit for bit: {'; '.join(changed)}")
    for note in run.student.chat.notes():
        if note not in run.warnings:
            _warn(run, note)


def _train(run: Run, began: float) -> RunSummary | None:
    recipe = run.recipe
    run.display.start(f"{recipe.name} in {run.folder.path}", _facts(run), recipe.steps, run.step)
    _notify(run, "rosd_kit_run_start")
    _evaluate_if_due(run)
    _heed_interrupts(run)
    while run.step < recipe.steps and not run.stopping:
        _step(run)
        _heed_interrupts(run)
        last = run.step == recipe.steps
        if last or run.stopping or _due(run.step, recipe.checkpoint.every):
            _save(run)  # before the evaluation, which may take long or fail: it is made up for when the run goes on
        if last or not run.stopping:
            _evaluate_if_due(run)
            _heed_interrupts(run)
        if run.stopping:
            _save(run)
    if run.step < recipe.steps:
        _warn(run, f"stopped after step {run.step}; go on with: rosd-kit run --resume {run.folder.path}")
        return None
    run.folder.write_folder("model", run.student.exporter(writes=run.ranks.is_main))
    if not run.ranks.is_main:
        return None
    evaluations = {record["step"]: record["results"] for record in run.folder.read("evaluations.jsonl")}
    before, after = ([SuiteResult.from_json(result) for result in evaluations.get(step, ())] for step in (0, recipe.steps))
    summary = summarise(
        name=recipe.name,
        folder=run.folder.path,
        steps=recipe.steps,
        seconds=time.monotonic() - began,
        records=run.folder.read("metrics.jsonl"),
        before=before,
        after=after,
        warnings=run.warnings,
        next_steps=next_steps(run.folder.path, recipe, knows_truth="oracle" in run.components.task.provides),
    )
    run.display.finish(summary)
    return summary


def _step(run: Run) -> None:
    """One training step: sample and diagnose, score and update, tell everybody."""
    recipe, began = run.recipe, time.perf_counter()
    batch = run.prefetcher.take(run.step) or _sample(run)
    if run.step + 1 < recipe.steps:
        run.prefetcher.begin(run.step + 1)
    run.display.phase("train")
    trained, seen = _update(run, batch)
    run.display.phase("sync")
    waited = run.prefetcher.wait()
    run.step += 1
    trained_at = time.perf_counter()
    run.components.teacher.after_step(run.student)
    _sync(run)
    now = time.perf_counter()
    counted = run.ranks.gather({**run.components.rollout.metrics(), **run.student.metrics()})
    metrics = {**batch.metrics, **trained, **worst(counted)}
    metrics |= {"time/sync": now - trained_at, "time/step": now - began}
    if run.prefetcher.enabled:
        metrics |= {"time/prefetch": waited, "rollout/staleness": staleness(batch, run.step - 1)}
    metrics |= speeds(metrics)
    run.folder.append("metrics.jsonl", {"step": run.step, **metrics})
    if _due(run.step, recipe.samples.every) or not trained["train/applied"]:
        records = sample_records(run.step, batch, run.student.tokenizer.decode, seen)
        run.folder.write_samples(f"step-{run.step:06d}", records)
    run.display.step(run.step, metrics)
    for warning in run.watch.step(metrics):
        _warn(run, warning)
    _tell_faults(run, batch.faults)
    _notify(run, "rosd_kit_step_end", step=run.step, metrics=metrics, samples=batch)
    run.optimizer.check()


def _problems(recipe: Recipe, components: BuiltComponents, step: int) -> list[Problem]:
    return components.task.train_batch(step=step, count=recipe.problems_per_step, seed=recipe.seed)


def _sample(run: Run) -> StepBatch:
    """Sample and diagnose the batch of the present step with the present weights."""
    with run.student.sampler.gathered():  # also for what an engine does at rest: it may have to mend a server
        batch = run.pipeline.step(_problems(run.recipe, run.components, run.step), run.step)
        if not run.prefetcher.enabled:
            run.components.rollout.rest()
    return batch


def _sync(run: Run) -> None:
    """Let the engine have the present weights."""
    sampler = run.student.sampler
    sampler.follow(run.student)
    with sampler.gathered():
        run.components.rollout.sync(sampler, run.step)


def _update(run: Run, batch: StepBatch) -> tuple[dict[str, float], Trained]:
    """Score the samples, take the gradient and apply it; return what happened as metrics, and what the loss saw."""
    began = time.perf_counter()
    if not batch.samples:
        return {"train/applied": 1.0, "train/weighted_tokens": 0.0, "train/skipped": 0.0}, Trained()
    run.student.model.train()
    with run.components.teacher.scoring(run.student) as teacher_models:
        score = partial(
            backward_step,
            student=run.student.model,
            teacher_models=teacher_models,
            objectives=run.components.objectives,
            settings=run.recipe.batch,
            pad_id=run.student.pad_id,
            temperature=run.recipe.sampling.temperature,
            ranks=run.ranks,
        )
        samples, faults = batch.samples, Faults()
        if run.components.localizer.refines:
            first = score(samples=samples, backward=False)
            samples, faults = refined(samples, run.components.localizer, first.scores, run.ranks)
            _tell_faults(run, faults.told())
        report = score(samples=samples)
    run.student.model.eval()
    outcome = run.optimizer.step(report.loss)
    if not outcome.applied:
        _warn(run, f"step {run.step + 1}: loss {report.loss}, gradient {outcome.grad_norm}: the update was skipped")
    metrics = {
        **reported(report),
        **({"fault/refine": float(len(faults.found))} if faults.found else {}),
        "train/grad_norm": outcome.grad_norm,
        "train/lr": outcome.lr,
        "train/applied": float(outcome.applied),
        "train/skipped": float(not outcome.applied),
        "train/weight_change": outcome.change,
        "time/train": time.perf_counter() - began,
        "tokens/train": float(sum(len(s.prompt_ids) + len(s.response_ids) for s in batch.samples)),
    }
    return metrics, Trained(samples=samples, scores=report.scores)


def _evaluate_if_due(run: Run) -> None:
    """Measure every suite before the first step, after the last and as often as the recipe says, once a step."""
    if not (run.step in (0, run.recipe.steps) or _due(run.step, run.recipe.evaluation.every)):
        return
    if run.ranks.from_main(any(record["step"] == run.step for record in run.folder.read("evaluations.jsonl"))):
        return
    run.display.phase("evaluate")
    faults = Faults()
    with run.student.sampler.gathered():
        measure = partial(
            evaluate_suites,
            task=run.components.task,
            engine=run.components.rollout,
            verifier=run.components.verifier,
            prompt_ids=run.student.prompt_ids,
            settings=run.recipe.evaluation,
            max_new_tokens=run.recipe.sampling.max_new_tokens,
            ranks=run.pipeline.ranks,
            faults=faults,
        )
        results = run.baseline(run, measure) if run.baseline and run.step == 0 else measure()
    run.folder.append("evaluations.jsonl", {"step": run.step, "results": [r.to_json() for r in results]})
    run.display.evaluation(run.step, results)
    _tell_faults(run, faults.told())
    for warning in run.watch.evaluation(results):
        _warn(run, warning)
    _notify(run, "rosd_kit_evaluation", step=run.step, results=results)


def _save(run: Run) -> None:
    """Save what the run goes on from, once a step."""
    if run.saved == run.step:
        return
    run.saved = run.step
    run.display.phase("save")
    parts = {
        "student": collect(run.student.state(), run.ranks),
        "optimizer": collect(run.optimizer.state(), run.ranks),
        "teacher": collect(run.components.teacher.state_dict(), run.ranks),
    }
    if run.ranks.is_main:
        keep = run.recipe.checkpoint.keep
        state = {"warnings": run.warnings, "prefetched": run.prefetcher.state()}
        save_checkpoint(run.folder.checkpoints, run.step, parts, state, keep=keep)


def _resume(run: Run) -> None:
    """Put the run back to its newest checkpoint; without one it begins anew."""
    newest = run.ranks.from_main(next(reversed(list_checkpoints(run.folder.checkpoints)), None))
    if newest is not None:
        checkpoint = load_checkpoint(newest)
        run.student.load_state(checkpoint.parts["student"])
        run.optimizer.load_state(checkpoint.parts["optimizer"])
        run.components.teacher.load_state_dict(checkpoint.parts["teacher"])
        restore_random(checkpoint)
        run.step = run.saved = checkpoint.step
        run.warnings = list(checkpoint.state["warnings"])
        prefetched = checkpoint.state.get("prefetched", checkpoint.state.get("ahead"))  # its name before API 2
        run.prefetcher.load_state(prefetched, partial(_problems, run.recipe, run.components))
        _sync(run)
    if run.step > run.recipe.steps:
        raise RunError(f"steps: the run already took {run.step} steps, more than the {run.recipe.steps} asked for.")
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        run.folder.truncate(name, run.step)
    for record in run.folder.read("metrics.jsonl"):
        _tell_new(run, run.watch.step({name: value for name, value in record.items() if value is not None}))
    for record in run.folder.read("evaluations.jsonl"):
        _tell_new(run, run.watch.evaluation([SuiteResult.from_json(result) for result in record["results"]]))


def _heed_interrupts(run: Run) -> None:
    run.stopping = run.ranks.any(run.interrupted or run.stopping)


def _interrupt(run: Run) -> None:
    run.interrupted = True
    run.display.warning("stopping after this step; interrupt again to stop at once")


def _facts(run: Run) -> dict[str, str]:
    recipe, student = run.recipe, run.student
    size = sum(p.numel() for p in student.model.parameters())
    processes = f" in {run.ranks.count} processes ({run.ranks.mode})" if run.ranks.count > 1 else ""
    return {
        "model": f"{recipe.model.path}, {size / 1e6:.2f}M parameters on {student.device}{processes}",
        "parts": ", ".join(f"{kind}={choice.name}" for kind, choice in recipe.choices()),
        "a step": f"{recipe.problems_per_step} problems x {recipe.group_size} rollouts, lr {recipe.optimizer.lr:g}",
    }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _warn(run: Run, text: str) -> None:
    run.warnings.append(text)
    run.display.warning(text)


def _tell_new(run: Run, warnings: Sequence[str]) -> None:
    """Tell what the steps so far give rise to and was not told then, because `watch` was set otherwise."""
    for warning in warnings:
        if warning not in run.warnings:
            _warn(run, warning)


def _tell_faults(run: Run, faults: Sequence[str]) -> None:
    """Warn of parts that failed at some samples, once a run each; the metrics `fault/<slot>` count on."""
    for fault in faults:
        part = fault.partition(" failed on ")[0]
        if not any(warning.startswith(f"{part} failed on ") for warning in run.warnings):
            _warn(run, fault)


def _notify(run: Run, hook: str, /, **facts: object) -> None:
    if not run.ranks.is_main:
        return
    for message in run.plugins.notify(hook, **{"run": run, **facts}):
        _warn(run, message)
