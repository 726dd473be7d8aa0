"""`rosd-kit diagnose`: samples rollouts, shows them to the teacher in several ways, and measures where the signal lies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.components.teachers.frozen import initial_teacher
from rosd_kit.contracts import Context, Site, TeacherModel
from rosd_kit.diagnose.arms import Arm, common_traces, draw_arms, privileged_text
from rosd_kit.diagnose.imitation import Imitation, compare_writing
from rosd_kit.diagnose.results import ArmResult, Cost, Diagnosis
from rosd_kit.diagnose.scoring import measures_of, score_tokens
from rosd_kit.diagnose.spans import ErrorSpan, error_span
from rosd_kit.diagnose.tables import Scored, region_rows, signal_row
from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.model.student import Student
from rosd_kit.options import options_at
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.pipeline.requests import Requester
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, build_component, build_components
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.state import check_readable, train_problems
from rosd_kit.seeds import stable_seed
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from rosd_kit.types import DistillSample, GenerateRequest, PolicyWeights, Prompt, StepBatch, TeacherView, Trace

#: Steps to sample at most: a model that solves nothing, or everything, has no mixed groups to wait for.
MOST_STEPS = 6
#: Rollouts to measure by default: those of two steps, but not more.
_ENOUGH = 96
#: Rollouts for which the teacher writes a solution of its own, per arm.
_WRITTEN = 32


def diagnose(
    recipe: Recipe,
    *,
    plugins: PluginManager,
    display: Display,
    compared: Sequence[Recipe] = (),
    rollouts: int | None = None,
    run: Path | None = None,
    notes: Sequence[str] = (),
) -> Diagnosis:
    """Sample at least `rollouts` gated rollouts, if a few steps yield as many, and return what was measured on them.

    The contexts of the recipes in `compared` are measured beside the recipe's own, on the same rollouts. With `run`, the folder
    of a run by this recipe, its newest checkpoint is measured, under the run's teacher, its initial weights, and itself.

    Raises `RunError` if the recipe has no teacher, or if no rollout passes the gate and has a teacher's prompt.
    """
    components = build_components(recipe, plugins.registry)
    if not components.distills:
        raise RunError(
            f"diagnose: {recipe.name} has no loss term with a teacher, so there is no signal to locate. "
            "Name a recipe that distils, for example rosd or sdpo."
        )
    display.phase("loading")
    keep_initial = run is not None or any(component.wants_initial() for component in components)
    student = Student.load(recipe.model, keep_initial=keep_initial, seed=recipe.seed)
    check_readable(student, train_problems(recipe, components, 0), {})
    student.check_layout(recipe.batch.layout)
    components.teacher.attach(student)
    step = _load_run(run, student, components) if run is not None else None
    components.rollout.start(student, Site(listener=display.waiting, samples_initial=components.samples_initial))
    bench = _Bench(recipe=recipe, components=components, student=student, display=display, trained=run is not None)
    contexts: dict[str, Context] = {recipe.context.name: components.context}
    for other in compared:
        context = build_component("context", other.context, plugins.registry, recipe.thinking, components.boundary)
        assert isinstance(context, Context)
        contexts.setdefault(other.context.name, context)
    try:
        with options_at(step or 0):
            wanted = rollouts or min(_ENOUGH, 2 * recipe.problems_per_step * recipe.group_size)
            return bench.measure(contexts, wanted, step, notes)
    finally:
        components.rollout.close()


def _load_run(run: Path, student: Student, components: BuiltComponents) -> int:
    """Give student and teacher the weights of a run's newest checkpoint; return its step."""
    found = list_checkpoints(run / "checkpoints")
    if not found:
        raise RunError(
            f"diagnose: {run} has no checkpoint. Diagnose its recipe instead: rosd-kit diagnose {run / 'recipe.yaml'}"
        )
    checkpoint = load_checkpoint(found[-1])
    student.load_state(checkpoint.tensors["student"])
    components.teacher.load_state_dict(checkpoint.tensors["teacher"])
    return checkpoint.step


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Everything that is needed to sample, to score and to write."""

    recipe: Recipe
    components: BuiltComponents
    student: Student
    display: Display
    trained: bool

    def measure(self, contexts: dict[str, Context], rollouts: int, step: int | None, notes: Sequence[str]) -> Diagnosis:
        batches = self._sample(rollouts, step or 0)
        traces = [t for b in batches for t in b.traces if t.weights is not None and t.case.rollout.completion.token_ids]
        groups = [group for batch in batches for group in batch.groups]
        arms, common = common_traces(draw_arms(contexts, traces, groups))
        prompts = {arm.name: self._encoded(arm, traces, common) for arm in arms}
        common = frozenset.intersection(common, *(frozenset(views) for views in prompts.values()))
        kept = sorted(common)
        if not kept:
            raise RunError(
                "diagnose: no rollout passed the gate and has a teacher's prompt in every arm. Take more rollouts per problem "
                "(group_size) or easier problems, so that right and wrong rollouts meet in one group."
            )
        spans = {i: error_span(traces[i].case, traces[i].weights) for i in kept}
        results = []
        self.display.phase("scoring")
        for arm in arms:
            for name, models in self._teachers(arm is arms[0]):
                results.append(self._arm(arm, name, models, traces, spans, prompts[arm.name]))
        wrong = [i for i in kept if not traces[i].case.rollout.verdict.success]
        sources = Counter(span.source if (span := spans[i]) else "nobody" for i in wrong)
        recipe = self.recipe
        return Diagnosis(
            recipe=recipe.name,
            model=recipe.model.path,
            step=step,
            localizer=recipe.localizer.name,
            loss=f"{recipe.divergence.name} on {recipe.support.name}",
            right=len(kept) - len(wrong),
            wrong=len(wrong),
            located_by=dict(sources),
            arms=results,
            cost=_cost(recipe, batches),
            notes=tuple(notes),
        )

    def _sample(self, rollouts: int, first: int) -> list[StepBatch]:
        pipeline = Pipeline.of(self.recipe, self.components, self.student, on_phase=self.display.phase)
        batches: list[StepBatch] = []
        for step in range(first, first + MOST_STEPS):
            batches.append(pipeline.step(train_problems(self.recipe, self.components, step), step))
            if sum(len(batch.traces) for batch in batches) >= rollouts:
                break
        return batches

    def _encoded(self, arm: Arm, traces: Sequence[Trace], common: frozenset[int]) -> dict[int, tuple[TeacherView, ...]]:
        """Return the tokenised prompts of an arm; rollouts with a prompt over its budget are left out."""
        requester = Requester(engine=self.components.rollout, encode=self.student.encoder("teacher"))
        encoded = {}
        for index in common:
            ids = [self._ids(requester, prompt) for prompt in arm.prompts[index]]
            if all(one is not None for one in ids):
                encoded[index] = tuple(TeacherView(prompt_ids=one or (), source=arm.name) for one in ids)
        return encoded

    def _ids(self, requester: Requester, prompt: Prompt) -> tuple[int, ...] | None:
        return requester.encode_within(prompt, self.recipe.sampling.max_teacher_prompt_tokens, "teacher", Counters())

    def _teachers(self, own: bool) -> list[tuple[str, tuple[TeacherModel, ...] | None]]:
        """Return the teachers to score with; None stands for the recipe's own. Before training all have the same weights."""
        name = self.recipe.teacher.name
        more: list[tuple[str, tuple[TeacherModel, ...] | None]] = [(name, None)]
        if self.trained and own:
            if name != "frozen":
                more.append(("frozen", (initial_teacher(self.student),)))
            if name != "live":
                more.append(("live", (TeacherModel(self.student.model),)))
        return more

    def _arm(
        self,
        arm: Arm,
        teacher: str,
        models: tuple[TeacherModel, ...] | None,
        traces: Sequence[Trace],
        spans: dict[int, ErrorSpan | None],
        views: dict[int, tuple[TeacherView, ...]],
    ) -> ArmResult:
        kept = sorted(spans)
        samples = [_sample(traces[i], views[i]) for i in kept]
        measures = measures_of(self.components)
        with self.components.teacher.scoring(self.student) as own:
            tables = score_tokens(
                samples,
                measures,
                student=self.student,
                teacher_models=own if models is None else models,
                settings=self.recipe.batch,
            )
        scored = []
        for index, table in zip(kept, tables, strict=True):
            weights = traces[index].weights
            assert weights is not None
            success = traces[index].case.rollout.verdict.success
            scored.append(Scored(success=success, span=spans[index], weights=weights.weights, table=table))
        return ArmResult(
            context=arm.context,
            placebo=arm.placebo,
            teacher=teacher,
            regions=region_rows(scored),
            signals=[signal_row(scored, measure) for measure in measures],
            imitation=self._imitation(arm, traces, kept, views) if models is None else None,
        )

    def _imitation(
        self, arm: Arm, traces: Sequence[Trace], kept: Sequence[int], views: dict[int, tuple[TeacherView, ...]]
    ) -> Imitation:
        """Let the teacher's weights write from the teacher's prompts."""
        chosen = kept[:_WRITTEN]
        self.display.phase("writing")
        sampling = self.recipe.sampling.at_step(0).to_request()
        requests = [
            GenerateRequest(
                prompt_ids=views[index][0].prompt_ids,
                sampling=sampling,
                seed=stable_seed(self.recipe.seed, "diagnose", arm.name, index),
                reference=traces[index].case.problem.solution,
            )
            for index in chosen
        ]
        weights: PolicyWeights = "initial" if self.trained and self.components.teacher.wants_initial() else "live"
        written = dict(self.components.rollout.stream(requests, weights=weights))
        verifier = self.components.verifier
        cases = [traces[index].case for index in chosen]
        return compare_writing(
            [privileged_text(arm.prompts[index][:1]) for index in chosen],
            [(written[n].text, verifier.judge(case.problem, written[n]).success) for n, case in enumerate(cases)],
            [(case.rollout.completion.text, case.rollout.verdict.success) for case in cases],
        )


def _sample(trace: Trace, views: tuple[TeacherView, ...]) -> DistillSample:
    completion, verdict = trace.case.rollout.completion, trace.case.rollout.verdict
    return DistillSample(
        problem_id=trace.case.problem.id,
        prompt_ids=completion.prompt_ids,
        response_ids=completion.token_ids,
        behaviour_logprobs=completion.logprobs,
        token_weights=(1.0,) * len(completion.token_ids),
        teacher_views=views,
        reward=verdict.score,
        success=verdict.success,
        group_rewards=(verdict.score,),
    )


def _cost(recipe: Recipe, batches: Sequence[StepBatch]) -> Cost:
    metrics: Counter[str] = Counter()
    for batch in batches:
        metrics.update(batch.metrics)
    reflected = [t for b in batches for t in b.traces if t.case.reflection is not None and t.case.reflection.raw]

    def share(name: str) -> float:
        asked = metrics[f"oracle/{name}_asked"]
        return metrics[f"oracle/{name}_right"] / asked if asked else math.nan

    return Cost(
        reflector=recipe.reflector.name,
        reflections=len(reflected),
        reflection_tokens=metrics["tokens/reflect"],
        rollout_tokens=metrics["tokens/generate"],
        reflection_seconds=metrics["time/reflect"],
        rollout_seconds=metrics["time/generate"],
        quote_right=share("quote"),
        idea_right=share("idea"),
    )
