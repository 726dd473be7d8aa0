"""`rosd-kit run --dry-run`: takes one step up to the gradient and shows one sample end to end; trains and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.display.text import left_out, sanitize
from rosd_kit.errors import RunError, shortened
from rosd_kit.memory.recomputation import recomputation_of
from rosd_kit.model.student import Student
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.attribution import culprit_named
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, build_components
from rosd_kit.run.no_signal import advice
from rosd_kit.run.prompt_boundary import check_headers, check_student, side_by_side
from rosd_kit.run.rehearsed_loss import rehearse_loss
from rosd_kit.run.state import check_readable, train_problems
from rosd_kit.types import Completion, DistillSample, GenerateRequest, PolicyWeights, StepBatch, Trace

#: Steps to try until one has a sample to train on.
_TRIES = 5


class _RecordingEngine:
    """Passes requests on to an engine and records requests and completions per call."""

    streams: bool = False

    def __init__(self, engine: RolloutEngine) -> None:
        self.engine = engine
        self.calls: list[list[tuple[GenerateRequest, Completion]]] = []

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        exchanges: list[tuple[GenerateRequest, Completion]] = []
        self.calls.append(exchanges)
        for place, completion in self.engine.stream(requests, weights=weights):
            exchanges.append((requests[place], completion))
            yield place, completion


def rehearse(recipe: Recipe, plugins: PluginManager, console: Console | None = None) -> None:
    """Run the pipeline until a step has a sample, print that sample and take its loss and gradient.

    Raises `RunError` if the student's prompt differs between template, engine and trainer, if no step yields a sample, or if a
    component fails at everything or returns what its slot does not allow.
    """
    with culprit_named(plugins):
        _rehearse(recipe, plugins, console or Console())


def _rehearse(recipe: Recipe, plugins: PluginManager, console: Console) -> None:
    components = build_components(recipe, plugins.registry)
    keep_initial = any(component.wants_initial() for component in components)
    recomputation = recomputation_of(recipe, components, Ranks.alone(recipe.model.device))
    student = Student.load(
        (recomputation.applied_to(recipe) if recomputation else recipe).model, keep_initial=keep_initial, seed=recipe.seed
    )
    suites = components.task.suites(count=recipe.evaluation.problems, seed=recipe.evaluation.seed)
    check_readable(student, train_problems(recipe, components, 0), suites)
    student.check_layout(recipe.batch.layout)
    components.teacher.attach(student)
    site = Site(
        listener=lambda text: console.print(text, style="dim", markup=False), samples_initial=components.samples_initial
    )
    components.rollout.start(student, site)
    engine = _RecordingEngine(components.rollout)
    pipeline = Pipeline.of(recipe, components, student, engine=engine)
    totals: Counter[str] = Counter()
    try:
        for step in range(_TRIES):
            engine.calls.clear()
            problems = train_problems(recipe, components, step)
            batch = pipeline.step(problems, step)
            student.check_prompts()
            totals.update({name: n for name, n in batch.metrics.items() if isinstance(n, (int, float))})
            if batch.samples:
                break
        else:
            raise _no_sample(totals, batch, components.verifier.config.truncated)
    finally:
        components.rollout.close()
    sample, trace = _most_telling(batch)
    check_student(student.chat.for_role("student"), trace.case.problem.messages, sample, engine.calls[0], student.pad_id)
    for view in sample.teacher_views:
        check_headers(student.chat, sample.prompt_ids, view.prompt_ids)
    _show(console, student, sample, trace, engine.calls[1:])
    console.print(Rule("loss", align="left"))
    for line in rehearse_loss(batch.samples, step, recipe=recipe, student=student, components=components):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for fault in batch.faults:
        console.print(f"warning: {fault}", highlight=False, markup=False, soft_wrap=True)
    for note in student.notes():
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    made = f"{len(batch.samples)} sample{'s' * (len(batch.samples) != 1)}"
    console.print(f"\n{recipe.name}: valid; {made} in this step; nothing was trained", highlight=False)


def _no_sample(totals: Mapping[str, float], batch: StepBatch, truncated: str) -> RunError:
    """Return the error that says why no step had a sample, with a response of the last one to look at."""
    cause = advice(lambda name: totals.get(name, 0.0), _TRIES, truncated=truncated)
    shown = next((rollout for group in batch.groups for rollout in group.rollouts), None)
    example = ""
    if shown is not None:
        text = shortened(shown.completion.text, 300)
        example = f"\nA response of the last step, judged {shown.verdict.status} with score {shown.verdict.score:g}: {text}"
        if shown.verdict.feedback:
            example += f"\nIts feedback: {shortened(shown.verdict.feedback, 200)}"
    return RunError(
        f"no sample to train on in {_TRIES} steps: {left_out(totals) or 'nothing was left out, but nothing is weighted'}.\n"
        f"{cause or 'Take more problems per step, or check the gate and the sampling.'}{example}"
    )


def _most_telling(batch: StepBatch) -> tuple[DistillSample, Trace]:
    """Return a sample with its trace, of a wrong rollout if there is one."""
    traces = {(t.case.problem.id, t.case.rollout.completion.token_ids): t for t in batch.traces}
    pairs = [(sample, traces[sample.problem_id, sample.response_ids]) for sample in batch.samples]
    return min(pairs, key=lambda pair: pair[0].success)


def _show(
    console: Console,
    student: Student,
    sample: DistillSample,
    trace: Trace,
    later_calls: Sequence[Sequence[tuple[GenerateRequest, Completion]]],
) -> None:
    def section(title: str, body: Text | Table | str) -> None:
        console.print(Rule(title, align="left"))
        console.print(Text(sanitize(body)) if isinstance(body, str) else body, soft_wrap=True)

    def decode(ids: Sequence[int]) -> str:
        return str(student.tokenizer.decode(list(ids)))

    case = trace.case
    section("student prompt", decode(sample.prompt_ids))
    section("response and its verdict", f"{case.rollout.completion.text}\n{case.rollout.verdict.feedback}")
    prompts = (decode(request.prompt_ids) for call in later_calls for request, _ in call)
    if asked := next((prompt for prompt in prompts if case.rollout.completion.text in prompt), None):
        section("reflection prompt", asked)
    if case.reflection and case.reflection.raw:
        section(f"reflection ({case.reflection.status})", case.reflection.raw)
    for view in sample.teacher_views:
        section(f"teacher prompt ({view.source})", decode(view.prompt_ids))
        table = side_by_side(student.chat, sample.prompt_ids, view.prompt_ids, sample.response_ids)
        section("where the response begins", table)
    outcome = trace.weights.outcome if trace.weights else "every token"
    section(f"weighted tokens ({outcome})", _weighted(student, sample, case.rollout.completion))


def _weighted(student: Student, sample: DistillSample, completion: Completion) -> Text:
    """Return the response as it reads, with its weighted tokens reversed and between [ ]; control tokens are spelled out."""
    text, inside, done = Text(), False, 0
    for id, weight, (start, end) in zip(sample.response_ids, sample.token_weights, completion.token_spans, strict=True):
        text.append(sanitize(completion.text[done : max(done, start)]))
        if bool(weight) != inside:
            text.append("[" if weight else "]")
            inside = bool(weight)
        done = max(done, start)
        piece = completion.text[done:end] or (student.chat.decode([id]) if start == end else "")
        text.append(sanitize(piece), style="reverse" if weight else "")
        done = max(done, end)
    return text.append("]" if inside else "")
