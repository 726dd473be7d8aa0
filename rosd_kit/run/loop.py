"""The whole training run, from a recipe to a table. Read it top to bottom.

    run_recipe
      open_folder, prepare, restore       setup.py, resume.py
      train
        evaluate_if_due                   before the first step, every few steps, after the last
        train_step
          sample        problems -> rollouts -> reflections -> samples     pipeline/
          update        samples -> loss -> gradient -> weights             update.py, training/
          sync_engine   weights -> engine
          record        metrics, samples, warnings, observers
        save                              resume.py
      finish            model, summary

The loop knows the order of the slots and nothing of any method: what is sampled, gated, diagnosed and distilled is up to the
components.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rosd_kit.display import Display, RunSummary
from rosd_kit.evaluation.suites import evaluate_suites
from rosd_kit.faults import Faults
from rosd_kit.options import options_at
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.plugins.attribution import culprit_named
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, Resolution
from rosd_kit.run.given import GivenComponents
from rosd_kit.run.interrupts import interruptible, stopping_signals, user_interrupts
from rosd_kit.run.model_card import write_model
from rosd_kit.run.recipe_file import write_origins, write_recipe
from rosd_kit.run.records import EVALUATIONS, METRICS
from rosd_kit.run.resume import check_recipe, restore, run_id, save
from rosd_kit.run.sample_records import sample_records
from rosd_kit.run.setup import describe, open_folder, prepare, record_environment
from rosd_kit.run.state import Baseline, Run
from rosd_kit.run.step_metrics import scheduled_values, speeds, staleness, worst
from rosd_kit.run.summary import RunOutcome, summarise_run
from rosd_kit.run.update import Update, update
from rosd_kit.types import StepBatch


def run_recipe(
    recipe: Recipe,
    *,
    plugins: PluginManager,
    out: Path,
    name: str | None,
    resume: Path | None,
    display: Display,
    baseline: Baseline | None = None,
    given: GivenComponents = GivenComponents(),  # noqa: B008 (frozen)
    resolution: Resolution | None = None,
) -> RunOutcome:
    """Run a recipe to its last step, or until it is interrupted.

    With `resume`, continue in that folder from its newest checkpoint. `baseline` may supply the evaluation before training.
    `given` holds components that a Python caller hands over as objects. `resolution` says where the recipe's values come from.
    Raises `RosdError` for everything that a user can mend; what was saved until then stays.
    """
    began = time.monotonic()
    ranks = Ranks.start(recipe.parallel, recipe.model.device)
    # Clean-ups run in reverse order; every callback runs, even if others fail.
    with ranks.reporting_failure(), ExitStack() as cleanup, ranks.outlasting_sigterm():
        cleanup.enter_context(user_interrupts())
        folder = open_folder(ranks, out, name or recipe.name, exactly=name is not None, resume=resume)
        cleanup.callback(folder.close)
        display = display if ranks.is_main else Display()
        cleanup.callback(display.close)
        with culprit_named(plugins):
            if resume:
                check_recipe(folder, recipe, plugins.registry)
            run = prepare(recipe, ranks, folder, plugins, display, given, run_id(folder))
            cleanup.callback(_notify, run, "rosd_kit_run_end")
            cleanup.callback(run.components.rollout.close)
            cleanup.callback(run.prefetcher.close)
            cleanup.callback(run.checkpoints.close)
            if resume:
                restore(run)
            run.components.boundary.first_step = run.step == 0
            if ranks.is_main:
                write_recipe(folder, run.recipe, plugins.registry, run.reporter.warn)
                if resolution is not None:
                    write_origins(folder, run.recipe, resolution, plugins.registry)
            record_environment(run, given)
            with interruptible(partial(_interrupt, run), stopping_signals(ranks)), ranks.outlasting_sigterm():
                train(run, baseline)
            run.checkpoints.wait()
            summary = finish(run, seconds=time.monotonic() - began)
            return RunOutcome(path=folder.path, finished=run.finished, summary=summary)


def train(run: Run, baseline: Baseline | None = None) -> None:
    """Take the remaining steps, with evaluations and checkpoints in between; stop early when interrupted."""
    recipe, interrupts = run.recipe, run.interrupts
    run.reporter.display.start(f"{recipe.name} in {run.folder.path}", describe(run), recipe.steps, run.step)
    _notify(run, "rosd_kit_run_start")
    evaluate_if_due(run, baseline)
    interrupts.agree()
    while not (run.finished or interrupts.stopping):
        train_step(run)
        interrupts.agree()
        if run.finished or interrupts.stopping or _due(run.step, recipe.checkpoint.every):
            save(run)  # before the evaluation, which may take long or fail: a resumed run makes up for it
        if run.finished or not interrupts.stopping:
            evaluate_if_due(run)
            interrupts.agree()
        if interrupts.stopping:
            save(run)


def train_step(run: Run) -> None:
    """Take one step: sample and diagnose, update the weights, give them to the engine, record everything."""
    with options_at(run.step):
        _train_step(run, run.recipe.at_step(run.step))


def _train_step(run: Run, recipe: Recipe) -> None:
    """Take one step with the option values in `recipe`, which are those of the step."""
    began = time.perf_counter()
    display, prefetcher = run.reporter.display, run.prefetcher
    batch = prefetcher.take(run.step) or sample(run)
    if run.components.boundary.first_step:
        run.student.check_prompts()
    if run.step + 1 < recipe.steps:
        prefetcher.begin(run.step + 1)
    display.phase("train")
    updated = update(
        batch.samples,
        recipe=recipe,
        student=run.student,
        components=run.components.with_weights(recipe.objective),
        optimizer=run.optimizer,
        ranks=run.ranks,
    )
    display.phase("sync")
    waited = prefetcher.wait()
    run.step += 1
    trained = time.perf_counter()
    run.components.teacher.after_step(run.student)
    run.sync_engine()
    synced = time.perf_counter()
    times = {"time/sync": synced - trained, "time/step": synced - began}
    times |= {"time/prefetch": waited} if prefetcher.enabled else {}
    times |= {"rollout/staleness": staleness(batch, run.step - 1)} if run.off_policy else {}
    record(run, batch, updated, {**times, **scheduled_values(run.recipe, run.step - 1)})
    run.components.boundary.first_step = False
    run.optimizer.check()


def sample(run: Run) -> StepBatch:
    """Sample and diagnose the current step's batch with the current weights."""
    with run.gathered():  # also while the engine rests: it may have to mend a server
        batch = run.sample()
        if not run.prefetcher.enabled:
            run.components.rollout.rest()
    return batch


def record(run: Run, batch: StepBatch, updated: Update, facts: Mapping[str, float]) -> None:
    """Record the finished step and report it to the user and the observers."""
    reporter = run.reporter
    counted = worst(run.ranks.gather({**run.components.rollout.metrics(), **run.student.metrics()}))
    metrics = {**batch.metrics, **updated.metrics, **counted, **facts}
    metrics |= speeds(metrics)
    run.folder.append(METRICS, {"step": run.step, **metrics})
    if _due(run.step, run.recipe.samples.every) or not metrics["train/applied"]:
        locates = run.components.localizer.locates
        share = run.recipe.samples.share if metrics["train/applied"] else 1.0
        records = sample_records(run.step, batch, run.student.chat.decode, updated.trained, share, locates=locates)
        run.folder.write_samples(f"step-{run.step:06d}", records)
    reporter.display.step(run.step, metrics)
    reporter.warn_of_faults(updated.faults)
    if not metrics["train/applied"]:
        loss, norm = metrics["train/loss"], metrics["train/grad_norm"]
        reporter.warn(f"step {run.step}: loss {loss}, gradient {norm}: the update was skipped")
    for warning in reporter.watch.step(metrics):
        reporter.warn(warning)
    reporter.warn_of_faults(batch.faults)
    for change in run.components.boundary.take():
        reporter.warn(change)
    _notify(run, "rosd_kit_step_end", step=run.step, metrics=metrics, samples=batch)


def evaluate_if_due(run: Run, baseline: Baseline | None = None) -> None:
    """Evaluate before the first step, after the last and as often as the recipe says; never twice at the same step."""
    if not (run.step in (0, run.recipe.steps) or _due(run.step, run.recipe.evaluation.every)):
        return
    if run.ranks.from_main(any(record["step"] == run.step for record in run.folder.read(EVALUATIONS))):
        return
    reporter, faults = run.reporter, Faults()
    reporter.display.phase("evaluate")
    measure = partial(
        evaluate_suites,
        task=run.components.task,
        engine=run.components.rollout,
        verifier=run.components.verifier,
        prompt_ids=run.student.encoder("evaluation"),
        settings=run.recipe.evaluation,
        training=run.recipe.sampling,
        ranks=run.pipeline.ranks,
        faults=faults,
        begins_in_thinking="evaluation" in run.student.chat.roles_in_thinking(run.recipe.thinking),
    )
    with run.gathered(), options_at(run.step):
        if baseline is not None and run.step == 0:
            results = baseline(run.recipe, run.student, reporter.plugins.registry, measure)
        else:
            results = measure()
    run.folder.append(EVALUATIONS, {"step": run.step, "results": [r.to_json() for r in results]})
    reporter.display.evaluation(run.step, results)
    reporter.warn_of_faults(faults.messages())
    for warning in reporter.watch.evaluation(results):
        reporter.warn(warning)
    _notify(run, "rosd_kit_evaluation", step=run.step, results=results)


def finish(run: Run, *, seconds: float) -> RunSummary | None:
    """Export the model and summarise the run; for an unfinished run, warn how to continue it."""
    if not run.finished:
        run.reporter.warn(f"stopped after step {run.step}; continue with: rosd-kit run --resume {run.folder.path}")
        return None
    export = run.student.exporter(writes=run.ranks.is_main)  # all ranks: shards are gathered
    run.folder.write_folder("model", partial(write_model, export=export, recipe=run.recipe, run=run.folder.path))
    if not run.ranks.is_main:
        return None
    summary = summarise_run(run, seconds=seconds)
    run.reporter.display.finish(summary)
    return summary


def _notify(run: Run, hook: str, /, **facts: object) -> None:
    if run.ranks.is_main:
        run.reporter.notify(hook, run.view(), **facts)


def _interrupt(run: Run) -> None:
    run.interrupts.requested = True
    run.reporter.display.warning("stopping after this step; interrupt again to stop at once")


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
