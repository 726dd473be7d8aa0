"""From problems to training samples: generate, verify, gate, reflect, locate, build the teacher's prompt.

The only module that calls the rollout engine while training. It knows the slots and the order in which data meets them;
it knows no method, no loss and no optimizer. Every stage takes values and returns new ones.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rosd_kit.contracts import RolloutEngine
from rosd_kit.oracle import judge_reflection, judge_start, judged_truth
from rosd_kit.parts import Parts
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import SamplingSettings
from rosd_kit.text.budget import fit
from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    GenerateRequest,
    Group,
    Message,
    Passed,
    Problem,
    Prompt,
    Rollout,
    Sampling,
    StepBatch,
    TeacherView,
    TokenWeights,
    Trace,
    Weights,
)

Encode = Callable[[Sequence[Message]], tuple[int, ...]]
OnPhase = Callable[[str], None]


@dataclass
class Tally:
    """The counts of one step, by metric name."""

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, amount: float = 1.0) -> None:
        self.counts[name] += amount

    def timed(self, phase: str, tokens: int, seconds: float) -> None:
        """Note how long a phase took and how many tokens it made."""
        self.counts[f"time/{phase}"] += seconds
        self.counts[f"tokens/{phase}"] += tokens


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages of a step, bound to the parts of a recipe and to an engine.

    `encode` turns messages into prompt ids with the generation header. All randomness comes from `seed` and the step.
    """

    parts: Parts
    engine: RolloutEngine
    encode: Encode
    sampling: SamplingSettings
    group_size: int
    seed: int
    on_phase: OnPhase = lambda phase: None

    def step(self, problems: Sequence[Problem], step: int) -> StepBatch:
        """Return the samples of one step, with every count that a reader of the metrics may ask for."""
        tally = Tally()
        groups = self._verify(problems, self._generate(problems, step, tally), tally)
        passed = self._gate(groups, tally)
        distilling = any(term.objective.needs_teacher for term in self.parts.objectives)
        cases = [self._case(group, p, groups, step) for group, p in passed]
        if distilling:
            cases = self._reflect(cases, step, tally)
        made = [self._sample(case, group, p, distilling, tally) for case, (group, p) in zip(cases, passed, strict=True)]
        samples = tuple(sample for sample, _ in made if sample is not None)
        tally.add("train/samples", len(samples))
        return StepBatch(samples=samples, groups=groups, traces=tuple(trace for _, trace in made), metrics=dict(tally.counts))

    def _generate(self, problems: Sequence[Problem], step: int, tally: Tally) -> list[list[Completion]]:
        """Sample `group_size` completions a problem; a prompt over the budget becomes an `overlong` outcome."""
        self.on_phase("generate")
        began = time.perf_counter()
        sampling = Sampling(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_new_tokens=self.sampling.max_new_tokens,
        )
        requests = [
            GenerateRequest(
                prompt_ids=prompt,
                sampling=sampling,
                seed=stable_seed(self.seed, "rollout", step, i, g),
                reference=problem.solution,
            )
            for i, problem in enumerate(problems)
            for prompt in [self.encode(problem.messages)]
            for g in range(self.group_size)
        ]
        done = self._ask(requests, self.sampling.max_prompt_tokens, "live")
        tally.timed("generate", sum(len(c.token_ids) for c in done), time.perf_counter() - began)
        tally.add("rollout/count", len(done))
        tally.add("rollout/length", sum(len(c.token_ids) for c in done) / max(1, len(done)))
        for completion in done:
            tally.add(f"finish/{completion.finish_reason}")
        return [done[i : i + self.group_size] for i in range(0, len(done), self.group_size)]

    def _ask(self, requests: Sequence[GenerateRequest], limit: int, weights: Weights) -> list[Completion]:
        """Have the engine answer what fits the limit; the rest comes back `overlong`, in its place."""
        fitting = [request for request in requests if 0 < len(request.prompt_ids) <= limit]
        answers = iter(self.engine.generate(fitting, weights=weights) if fitting else ())
        return [
            next(answers) if 0 < len(request.prompt_ids) <= limit else _overlong(request.prompt_ids) for request in requests
        ]

    def _verify(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]], tally: Tally
    ) -> tuple[Group, ...]:
        self.on_phase("verify")
        groups = []
        for problem, members in zip(problems, completions, strict=True):
            verdicts = self.parts.verifier.verify_group(problem, [c.text for c in members])
            rollouts = tuple(
                Rollout(index=i, completion=c, verdict=v) for i, (c, v) in enumerate(zip(members, verdicts, strict=True))
            )
            groups.append(Group(problem=problem, rollouts=rollouts))
            for verdict in verdicts:
                tally.add(f"verify/{verdict.status}")
        verdicts = [r.verdict for group in groups for r in group.rollouts]
        tally.add("rollout/success", sum(v.success for v in verdicts) / max(1, len(verdicts)))
        return tuple(groups)

    def _gate(self, groups: Sequence[Group], tally: Tally) -> list[tuple[Group, Passed]]:
        passed = []
        for group in groups:
            decision = self.parts.gate.decide(group)
            tally.add(f"gate/{decision.outcome}")
            for p in decision.passed:
                if group.rollouts[p.index].completion.token_ids:
                    passed.append((group, p))
                else:
                    tally.add("skip/empty_response")
        return passed

    def _case(self, group: Group, passed: Passed, batch: Sequence[Group], step: int) -> Case:
        """Gather what is known about one rollout: its demonstrations and, in procedural tasks, its true first error."""
        rollout = group.rollouts[passed.index]
        rng = random.Random(stable_seed(self.seed, "demonstration", step, group.problem.id, passed.index))
        return Case(
            problem=group.problem,
            rollout=rollout,
            views=self.parts.demonstration.views(group, rollout, batch, rng),
            truth=self.parts.task.first_error(group.problem, rollout.completion.text),
        )

    def _reflect(self, cases: Sequence[Case], step: int, tally: Tally) -> list[Case]:
        """Attach a reflection to every case; the reflector's prompts are budgeted and batched here."""
        self.on_phase("reflect")
        began = time.perf_counter()
        asked = made = 0

        def generate(
            prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: Weights
        ) -> list[Completion]:
            nonlocal asked, made
            requests = [
                GenerateRequest(
                    prompt_ids=self._encode_within(prompt, max_prompt_tokens, "reflect", tally) or (),
                    sampling=sampling,
                    seed=stable_seed(self.seed, "reflect", step, i),
                )
                for i, prompt in enumerate(prompts, start=asked)
            ]
            asked += len(prompts)
            done = self._ask(requests, max_prompt_tokens, weights)
            made += sum(len(c.token_ids) for c in done)
            return done

        reflections = self.parts.reflector.reflect(cases, generate)
        tally.timed("reflect", made, time.perf_counter() - began)
        for case, reflection in zip(cases, reflections, strict=True):
            tally.add(f"reflect/{reflection.status}")
            if truth := judged_truth(case):
                for name, amount in judge_reflection(case.rollout.completion.text, truth, reflection).items():
                    tally.add(f"oracle/{name}", amount)
        return [replace(case, reflection=r) for case, r in zip(cases, reflections, strict=True)]

    def _sample(
        self, case: Case, group: Group, passed: Passed, distilling: bool, tally: Tally
    ) -> tuple[DistillSample | None, Trace]:
        """Localise, write the teacher's prompts, and put the training sample together."""
        completion, verdict = case.rollout.completion, case.rollout.verdict
        weights = self._locate(case, tally) if distilling else None
        views = self._teacher_views(case, tally) if distilling else ()
        status = "ok" if views or not distilling else "no_privileged_text"
        if weights is not None and not any(weights.weights):
            status = "no_weight"
        tally.add(f"sample/{status}")
        sample = DistillSample(
            problem_id=group.problem.id,
            prompt_ids=completion.prompt_ids,
            response_ids=completion.token_ids,
            behaviour_logprobs=completion.logprobs,
            token_weights=weights.weights if weights else (1.0,) * len(completion.token_ids),
            teacher_views=views,
            reward=verdict.score,
            success=verdict.success,
            group_rewards=tuple(r.verdict.score for r in group.rollouts),
            weight=passed.weight,
            route=passed.route,
        )
        trace = Trace(case=case, weights=weights, teacher_views=views, status=status)
        trained = any(any(term.objective.token_weights(sample)) for term in self.parts.objectives)
        return (sample if trained else None), trace

    def _locate(self, case: Case, tally: Tally) -> TokenWeights:
        weights = self.parts.localizer.locate(case)
        tally.add(f"localize/{weights.outcome}")
        truth = judged_truth(case)
        if truth and self.parts.localizer.locates:
            tally.add(f"oracle/{judge_start(case.rollout.completion.text, truth, weights.start_char)}")
        return weights

    def _teacher_views(self, case: Case, tally: Tally) -> tuple[TeacherView, ...]:
        views = []
        for prompt in self.parts.context.prompts(case):
            told = _privileged(case, prompt)
            tally.add(f"context/{'+'.join(told) or 'other'}")
            ids = self._encode_within(prompt, self.sampling.max_teacher_prompt_tokens, "teacher", tally)
            if ids is not None:
                views.append(TeacherView(prompt_ids=ids, source=", ".join(told.values()) or "other"))
        return tuple(views)

    def _encode_within(self, prompt: Prompt, budget: int, what: str, tally: Tally) -> tuple[int, ...] | None:
        """Return the prompt's ids under the budget, or None where even the parts that must stay do not fit."""
        fitted = fit(prompt, lambda messages: len(self.encode(messages)), budget)
        tally.add(f"budget/{what}_cut", float(fitted.cut))
        if not fitted.fits:
            tally.add(f"budget/{what}_overlong")
            return None
        return self.encode(fitted.messages)


def _privileged(case: Case, prompt: Prompt) -> dict[str, str]:
    """Return what a teacher's prompt tells beyond the problem: kind of text to its source, in the order of the prompt."""
    known = {view.text.strip(): ("demonstration", view.source) for view in case.views}
    known[case.rollout.verdict.feedback.strip()] = ("feedback", "feedback")
    if case.reflection and case.reflection.idea:
        known[case.reflection.idea.strip()] = ("idea", "idea")
    told = (section.text.strip() for section in prompt.sections if section.keep)
    return dict(known[text] for text in told if text in known)


def _overlong(prompt_ids: tuple[int, ...]) -> Completion:
    return Completion(prompt_ids=prompt_ids, token_ids=(), logprobs=(), text="", token_spans=(), finish_reason="overlong")
