"""From problems to training samples: generate, verify, gate, reflect, locate, build the teacher's prompt.

The only module that calls the rollout engine while training. It knows the slots and the order in which data meets them;
it knows no method, no loss and no optimizer. Every stage takes values and returns new ones.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from rosd_kit.contracts import Generator
from rosd_kit.evaluation.collapse_metrics import collapse_metrics
from rosd_kit.faults import (
    check_decision,
    check_located,
    check_prompts,
    check_reflections,
    check_truth,
    check_verdicts,
    check_views,
    check_weights,
)
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.oracle import judge_reflection, judge_start, judged_truth
from rosd_kit.pipeline.requests import Encode, PromptWriter, Requester
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import SamplingSettings
from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    FirstError,
    GenerateRequest,
    Group,
    Passed,
    Problem,
    Prompt,
    Reflection,
    Rollout,
    Sampling,
    StepBatch,
    TeacherView,
    TokenWeights,
    Trace,
    Verdict,
)

OnPhase = Callable[[str], None]

#: Groups whose reflections wait for a streaming engine at once; each is a thread that does nothing but wait.
_REFLECTING = 64


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is known of the rollouts of some groups that passed the gate, and what was counted on the way."""

    passed: list[tuple[Group, Passed]]
    cases: list[Case]
    counters: Counters


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages of a step, bound to the parts of a recipe and to an engine.

    `encode` turns messages into prompt ids with the generation header. All randomness comes from `seed` and the step. With an
    engine that streams, each group is verified, gated and reflected on as soon as its last rollout is there.
    """

    components: BuiltComponents
    engine: Generator
    encode: Encode
    sampling: SamplingSettings
    group_size: int
    seed: int
    on_phase: OnPhase = lambda phase: None
    ranks: Ranks | None = None

    def step(self, problems: Sequence[Problem], step: int) -> StepBatch:
        """Return the samples of one step, with every count that a reader of the metrics may ask for.

        `time/generate` and `time/reflect` are the seconds that the step had to wait for them. With several `ranks`, which must
        all call this with the same problems, each works on its share of them, and all get the samples of all.
        """
        counters = Counters()
        groups, diagnoses = (
            self._early(problems, step, counters) if self._diagnoses_early else self._in_turn(problems, step, counters)
        )
        for diagnosis in diagnoses:
            counters.merge(diagnosis.counters)
        passed = [pair for diagnosis in diagnoses for pair in diagnosis.passed]
        cases = [case for diagnosis in diagnoses for case in diagnosis.cases]
        made = [self._sample(case, group, p, counters) for case, (group, p) in zip(cases, passed, strict=True)]
        if self.ranks is not None:
            shares = self.ranks.gather((groups, made, counters))
            groups = _in_order(problems, [theirs for theirs, _, _ in shares])
            made = _by_problem(problems, [one for _, theirs, _ in shares for one in theirs])
            counters = Counters.of_all([theirs for _, _, theirs in shares])
        samples = tuple(sample for sample, _ in made if sample is not None)
        counters.add("train/samples", len(samples))
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        counters.add("rollout/count", len(rollouts))
        counters.add("rollout/length", sum(len(r.completion.token_ids) for r in rollouts) / max(1, len(rollouts)))
        judged = [rollout.verdict for rollout in rollouts if rollout.verdict.status != "error"]
        counters.add("rollout/success", sum(verdict.success for verdict in judged) / max(1, len(judged)))
        counters.faults.judge()
        traces, metrics = tuple(trace for _, trace in made), {**counters.counts, **collapse_metrics(groups)}
        return StepBatch(samples=samples, groups=groups, traces=traces, metrics=metrics, faults=counters.faults.told())

    def _share(self, problems: Sequence[Problem]) -> Sequence[int]:
        return self.ranks.share(len(problems)) if self.ranks is not None else range(len(problems))

    @property
    def _distilling(self) -> bool:
        return any(term.objective.asks_teacher for term in self.components.objectives)

    @property
    def _diagnoses_early(self) -> bool:
        """Whether a group can be diagnosed while others are still being sampled."""
        return self.engine.streams and self._distilling and not self.components.demonstration.sees_batch

    @property
    def _requester(self) -> Requester:
        return Requester(engine=self.engine, encode=self.encode)

    def _in_turn(self, problems: Sequence[Problem], step: int, counters: Counters) -> tuple[tuple[Group, ...], list[Diagnosis]]:
        """Sample everything, then diagnose everything: the reflector's prompts are one batch."""
        groups = batch = _in_order(problems, [list(self._groups(problems, step, counters))])
        if self.ranks is not None and self.components.demonstration.sees_batch:
            batch = _in_order(problems, self.ranks.gather(groups))
        if self._distilling:
            self.on_phase("reflect")
        began = time.perf_counter()
        diagnosis = self._diagnose(groups, batch, step)
        if self._distilling:
            counters.timed("reflect", 0, time.perf_counter() - began)
        return groups, [diagnosis]

    def _early(self, problems: Sequence[Problem], step: int, counters: Counters) -> tuple[tuple[Group, ...], list[Diagnosis]]:
        """Diagnose each group in a thread as soon as it is sampled; the engine answers both kinds of requests at once."""
        threads = ThreadPoolExecutor(_REFLECTING, "rosd-kit-reflect")
        try:
            begun = {}
            found = []
            for group in self._groups(problems, step, counters):
                found.append(group)
                begun[group.problem.id] = threads.submit(self._diagnose, [group], [group], step)
            groups = _in_order(problems, [found])
            self.on_phase("reflect")
            began = time.perf_counter()
            diagnoses = [begun[group.problem.id].result() for group in groups]
            counters.timed("reflect", 0, time.perf_counter() - began)
            return groups, diagnoses
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _groups(self, problems: Sequence[Problem], step: int, counters: Counters) -> Iterator[Group]:
        """Sample `group_size` completions for each problem of this process and yield each group, verified, when it is complete.

        A prompt over the budget becomes an `overlong` outcome.
        """
        self.on_phase("generate")
        mine = self._share(problems)
        requests = [request for place in mine for request in self._requests(problems[place], place, step)]
        members: list[dict[int, Completion]] = [{} for _ in mine]
        answers = self._requester.stream(requests, self.sampling.max_prompt_tokens)
        tokens, waited = 0, 0.0
        for number in range(len(requests)):
            began = time.perf_counter()
            place, completion = next(answers)
            waited += time.perf_counter() - began
            if number == 0 and not self.engine.streams:
                self.on_phase("verify")
            tokens += len(completion.token_ids)
            counters.add(f"finish/{completion.finish_reason}")
            index, member = divmod(place, self.group_size)
            members[index][member] = completion
            if len(members[index]) == self.group_size:
                yield self._verified(problems[mine[index]], [members[index][i] for i in range(self.group_size)], counters)
        next(answers, None)  # an engine may have something to do behind its last answer
        counters.timed("generate", tokens, waited)

    def _requests(self, problem: Problem, place: int, step: int) -> list[GenerateRequest]:
        sampling = Sampling(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_new_tokens=self.sampling.max_new_tokens,
        )
        prompt = self.encode(problem.messages)
        return [
            GenerateRequest(
                prompt_ids=prompt,
                sampling=sampling,
                seed=stable_seed(self.seed, "rollout", step, place, g),
                reference=problem.solution,
            )
            for g in range(self.group_size)
        ]

    def _verified(self, problem: Problem, completions: Sequence[Completion], counters: Counters) -> Group:
        verifier, texts = self.components.verifier, [c.text for c in completions]
        verdicts = counters.attempt(
            verifier, f"problem {problem.id!r}", lambda: verifier.verify_group(problem, texts), check_verdicts(len(texts))
        )
        verdicts = verdicts or [Verdict(score=0.0, success=False, status="error")] * len(texts)
        for verdict in verdicts:
            counters.add(f"verify/{verdict.status}")
        pairs = enumerate(zip(completions, verdicts, strict=True))
        return Group(problem=problem, rollouts=tuple(Rollout(index=i, completion=c, verdict=v) for i, (c, v) in pairs))

    def _diagnose(self, groups: Sequence[Group], batch: Sequence[Group], step: int) -> Diagnosis:
        """Gate some groups of a batch, and reflect on what passes."""
        counters = Counters()
        known = [(group, p, self._case(group, p, batch, step, counters)) for group, p in self._gate(groups, counters)]
        passed = [(group, p) for group, p, case in known if case is not None]
        cases = [case for _, _, case in known if case is not None]
        if self._distilling:
            cases = self._reflect(cases, step, counters)
        return Diagnosis(passed=passed, cases=cases, counters=counters)

    def _gate(self, groups: Sequence[Group], counters: Counters) -> list[tuple[Group, Passed]]:
        passed = []
        for group in groups:
            judged = tuple(rollout for rollout in group.rollouts if rollout.verdict.status != "error")
            if len(judged) < len(group.rollouts):  # a verifier that failed says nothing about the answer
                counters.add("skip/verifier_error", len(group.rollouts) - len(judged))
            if not judged:
                continue
            asked = replace(group, rollouts=judged)
            decision = counters.attempt(
                self.components.gate,
                f"problem {group.problem.id!r}",
                partial(self.components.gate.decide, asked),
                check_decision(asked),
            )
            if decision is None:
                continue
            counters.add(f"gate/{decision.outcome}")
            for p in decision.passed:
                if unfit := _unfit(group.rollouts[p.index].completion):
                    counters.add(f"skip/{unfit}")
                else:
                    passed.append((group, p))
        return passed

    def _case(self, group: Group, passed: Passed, batch: Sequence[Group], step: int, counters: Counters) -> Case | None:
        """Gather what is known about one rollout: its demonstrations and, in procedural tasks, its true first error."""
        rollout = group.rollouts[passed.index]
        rng = random.Random(stable_seed(self.seed, "demonstration", step, group.problem.id, passed.index))
        demonstration, subject = self.components.demonstration, _subject(group.problem, rollout)
        views = counters.attempt(demonstration, subject, lambda: demonstration.views(group, rollout, batch, rng), check_views)
        if views is None:
            return None
        return Case(
            problem=group.problem,
            rollout=rollout,
            views=views,
            truth=self._truth(group.problem, rollout, counters),
        )

    def _truth(self, problem: Problem, rollout: Rollout, counters: Counters) -> FirstError | None:
        """Ask the task for the first error; one that fails at it knows none."""
        task, text = self.components.task, rollout.completion.text
        told = counters.attempt(
            task, _subject(problem, rollout), lambda: (task.first_error(problem, text),), check_truth(len(text))
        )
        return told[0] if told else None

    def _reflect(self, cases: Sequence[Case], step: int, counters: Counters) -> list[Case]:
        """Attach a reflection to every case. What the engine raises meanwhile is no fault of the reflector: it ends the run."""
        writer = PromptWriter(requester=self._requester, counters=counters, seed_of=(self.seed, "reflect", step))
        reflections = self._reflections(cases, writer, counters)
        counters.timed("reflect", writer.made, 0.0)
        for case, reflection in zip(cases, reflections, strict=True):
            counters.add(f"reflect/{reflection.status}")
            if truth := judged_truth(case):
                for name, amount in judge_reflection(case.rollout.completion.text, truth, reflection).items():
                    counters.add(f"oracle/{name}", amount)
        return [replace(case, reflection=r) for case, r in zip(cases, reflections, strict=True)]

    def _reflections(self, cases: Sequence[Case], writer: PromptWriter, counters: Counters) -> list[Reflection]:
        """Ask about all cases at once; where that fails, about each half, so that no case costs another its reflection."""
        reflector, tried = self.components.reflector, Counters()
        subject = _subject(cases[0].problem, cases[0].rollout) if len(cases) == 1 else f"{len(cases)} rollouts together"
        found = tried.attempt(reflector, subject, lambda: reflector.reflect(cases, writer), check_reflections(len(cases)))
        if found is None and writer.failure is not None:
            raise writer.failure
        if found is None and len(cases) > 1:
            half = len(cases) // 2
            return [*self._reflections(cases[:half], writer, counters), *self._reflections(cases[half:], writer, counters)]
        counters.merge(tried)
        return [Reflection(status="fault")] * len(cases) if found is None else list(found)

    def _sample(self, case: Case, group: Group, passed: Passed, counters: Counters) -> tuple[DistillSample | None, Trace]:
        """Localise, write the teacher's prompts, and put the training sample together."""
        distilling = self._distilling
        completion, verdict = case.rollout.completion, case.rollout.verdict
        weights = self._locate(case, counters) if distilling else None
        views = self._teacher_views(case, counters) if distilling else ()
        if views is None or (distilling and weights is None):
            counters.add("sample/fault")
            return None, Trace(case=case, weights=weights, teacher_views=views or (), status="fault")
        status = "ok" if views or not distilling else "no_privileged_text"
        if weights is not None and not any(weights.weights):
            status = "no_weight"
        counters.add(f"sample/{status}")
        sample = DistillSample(
            problem_id=group.problem.id,
            prompt_ids=completion.prompt_ids,
            response_ids=completion.token_ids,
            behaviour_logprobs=completion.logprobs,
            token_weights=weights.weights if weights else (1.0,) * len(completion.token_ids),
            teacher_views=views,
            reward=verdict.score,
            success=verdict.success,
            group_rewards=tuple(r.verdict.score for r in group.rollouts if r.verdict.status != "error"),
            weight=passed.weight,
            route=passed.route,
        )
        trained_as = sample if self._is_trained(sample, _subject(case.problem, case.rollout), counters) else None
        return trained_as, Trace(case=case, weights=weights, teacher_views=views, status=status, sample=trained_as)

    def _is_trained(self, sample: DistillSample, subject: str, counters: Counters) -> bool:
        """Return whether any objective gives the sample a weight; none does where one of them fails at it."""
        check = check_weights(len(sample.response_ids))
        objectives = [term.objective for term in self.components.objectives]
        found = [counters.attempt(one, subject, partial(one.token_weights, sample), check) for one in objectives]
        return all(weights is not None for weights in found) and any(any(weights or ()) for weights in found)

    def _locate(self, case: Case, counters: Counters) -> TokenWeights | None:
        localizer, subject = self.components.localizer, _subject(case.problem, case.rollout)
        check = check_located(len(case.rollout.completion.token_ids))
        weights = counters.attempt(localizer, subject, lambda: localizer.locate(case), check)
        if weights is None:
            return None
        counters.add(f"localize/{weights.outcome}")
        truth = judged_truth(case)
        if truth and self.components.localizer.locates:
            counters.add(f"oracle/{judge_start(case.rollout.completion.text, truth, weights.start_char)}")
        return weights

    def _teacher_views(self, case: Case, counters: Counters) -> tuple[TeacherView, ...] | None:
        context, subject = self.components.context, _subject(case.problem, case.rollout)
        prompts = counters.attempt(context, subject, lambda: context.prompts(case), check_prompts)
        if prompts is None:
            return None
        views = []
        for prompt in prompts:
            told = _privileged(case, prompt)
            counters.add(f"context/{'+'.join(told) or 'other'}")
            ids = self._requester.encode_within(prompt, self.sampling.max_teacher_prompt_tokens, "teacher", counters)
            if ids is not None:
                views.append(TeacherView(prompt_ids=ids, source=", ".join(told.values()) or "other"))
        return tuple(views)


def _unfit(completion: Completion) -> str | None:
    """Return why nothing can be trained on a response, or None."""
    if not completion.token_ids:
        return "empty_response"
    whole = len(completion.logprobs) == len(completion.token_spans) == len(completion.token_ids)
    return None if whole and all(map(math.isfinite, completion.logprobs)) else "bad_logprobs"


def _subject(problem: Problem, rollout: Rollout) -> str:
    return f"rollout {rollout.index} of problem {problem.id!r}"


def _privileged(case: Case, prompt: Prompt) -> dict[str, str]:
    """Return what a teacher's prompt tells beyond the problem: kind of text to its source, in the order of the prompt."""
    known = {view.text.strip(): ("demonstration", view.source) for view in case.views}
    known[case.rollout.verdict.feedback.strip()] = ("feedback", "feedback")
    if case.reflection and case.reflection.idea:
        known[case.reflection.idea.strip()] = ("idea", "idea")
    told = (section.text.strip() for section in prompt.sections if section.cut_priority is not None)
    return dict(known[text] for text in told if text in known)


def _by_problem(
    problems: Sequence[Problem], made: Sequence[tuple[DistillSample | None, Trace]]
) -> list[tuple[DistillSample | None, Trace]]:
    """Return what was made of rollouts in the order of their problems."""
    places = {problem.id: place for place, problem in enumerate(problems)}
    return sorted(made, key=lambda one: places[one[1].case.problem.id])


def _in_order(problems: Sequence[Problem], shares: Sequence[Sequence[Group]]) -> tuple[Group, ...]:
    """Return the groups that there are in the order of their problems."""
    found = {group.problem.id: group for groups in shares for group in groups}
    return tuple(found[problem.id] for problem in problems if problem.id in found)
