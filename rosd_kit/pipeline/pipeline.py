"""From problems to training samples: sample, verify, gate, reflect, localize, prompt the teacher.

    problems -> GroupSampler -> groups -> Diagnoser -> cases -> SampleAssembler -> samples
                sampling.py               diagnosis.py          assembly.py

This package is all that calls the rollout engine while training. It knows the slots and the order in which data meets them;
it knows no method, no loss and no optimizer. Every stage takes values and returns new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial

import torch

from rosd_kit.contracts import Generator
from rosd_kit.evaluation.collapse_metrics import collapse_metrics
from rosd_kit.model.student import Student
from rosd_kit.options import options_at
from rosd_kit.parallel.devices import same_device
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.pipeline.assembly import SampleAssembler
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.diagnosis import Diagnoser, Diagnosis
from rosd_kit.pipeline.open_groups import OpenGroup, StepEnd, new_groups
from rosd_kit.pipeline.requests import Decode, Encode, Requester
from rosd_kit.pipeline.sampling import GroupSampler
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.settings import ChatRole, SamplingSettings
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.specials import ids_without_token
from rosd_kit.types import Group, Problem, StepBatch, Trace

#: Groups that are reflected on at once while a streaming engine samples; each is a thread that only waits.
_REFLECTION_THREADS = 64


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages of a step, bound to a recipe's components and an engine.

    `encode` turns a problem's messages into prompt ids with the generation header; so do the encoders of reflections and of the
    teacher's prompts, which are by default the same. All randomness comes from `seed` and the step. If the
    engine streams, each group is verified, gated and reflected on as soon as its last rollout is there. Responses with
    `ids_without_token`, which no engine should sample, are counted. After prompts of `roles_in_thinking`, a response begins
    inside a thinking block.
    """

    components: BuiltComponents
    engine: Generator
    encode: Encode
    encode_reflection: Encode | None = None
    encode_for_teacher: Encode | None = None
    decode: Decode | None = None
    sampling: SamplingSettings
    group_size: int
    seed: int
    on_phase: Callable[[str], None] = lambda phase: None
    ranks: Ranks | None = None
    ids_without_token: frozenset[int] = frozenset()
    roles_in_thinking: frozenset[ChatRole] = frozenset()

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        components: BuiltComponents,
        student: Student,
        *,
        engine: Generator | None = None,
        on_phase: Callable[[str], None] = lambda phase: None,
        ranks: Ranks | None = None,
    ) -> Pipeline:
        """Return the pipeline of a recipe and its student; `engine` may stand for the recipe's own."""
        return cls(
            components=components,
            engine=engine or components.rollout,
            encode=student.encoder("student"),
            encode_reflection=student.encoder("reflector"),
            encode_for_teacher=student.encoder("teacher"),
            decode=partial(decode_with_spans, student.tokenizer),
            sampling=recipe.sampling,
            group_size=recipe.group_size,
            seed=recipe.seed,
            on_phase=on_phase,
            ranks=ranks,
            ids_without_token=frozenset(ids_without_token(student.tokenizer, student.vocabulary)),
            roles_in_thinking=student.chat.roles_in_thinking(recipe.thinking),
        )

    def step(self, problems: Sequence[Problem], step: int) -> StepBatch:
        """Return the samples of one step and every count that metrics need.

        `time/generate` and `time/reflect` are the seconds that the step waited for them. With several `ranks`, each works on
        its share of the problems and all return the whole batch; all must call this with the same problems.
        """
        with options_at(step):
            return self._at_step(step)._step(new_groups(problems, step, self.group_size), step)

    def step_until(self, opened: Sequence[OpenGroup], step: int, enough: int) -> tuple[StepBatch, list[OpenGroup]]:
        """Like `step`, with groups of which only the first `enough` that are complete belong to it; return also the others.

        Rollouts that are open when the step has its groups are stopped, on all ranks. Needs an engine that provides
        `partial_rollouts`.
        """
        with options_at(step):
            ranks = self.ranks or Ranks(device=torch.device("cpu"))
            end = StepEnd(enough=min(enough, len(opened)), total=ranks.shared_number(f"complete groups of step {step}"))
            with end.watched() if ranks.count > 1 else nullcontext():
                batch = self._at_step(step)._step(opened, step, end)
            left = {(one.step, one.index): one for share in ranks.gather(end.left) for one in share}
            return batch, [left[place] for one in opened if (place := (one.step, one.index)) in left]

    def _at_step(self, step: int) -> Pipeline:
        return replace(self, sampling=self.sampling.at_step(step))

    def _step(self, opened: Sequence[OpenGroup], step: int, end: StepEnd | None = None) -> StepBatch:
        counters, problems = Counters(), [group.problem for group in opened]
        groups, diagnoses = self._sample_and_diagnose(opened, step, counters, end)
        for diagnosis in diagnoses:
            counters.merge(diagnosis.counters)
        assembler = SampleAssembler(
            components=self.components,
            requester=self._requester("teacher"),
            max_teacher_prompt_tokens=self.sampling.max_teacher_prompt_tokens,
        )
        traces = [assembler.assemble(rollout, counters) for diagnosis in diagnoses for rollout in diagnosis.rollouts]
        left_out = [one for diagnosis in diagnoses for one in diagnosis.left_out]
        if self.ranks is not None:
            shares = self.ranks.gather((groups, traces, counters, left_out))
            groups = _in_order(problems, [theirs for theirs, _, _, _ in shares])
            traces = _by_problem(problems, [trace for _, theirs, _, _ in shares for trace in theirs])
            counters = Counters.of_ranks([theirs for _, _, theirs, _ in shares])
            left_out = [one for _, _, _, theirs in shares for one in theirs]
        samples = tuple(trace.sample for trace in traces if trace.sample is not None)
        counters.add("train/samples", len(samples))
        _count_rollouts(groups, counters)
        if unreadable := sum(map(self._unreadable, groups)):
            counters.add("rollout/without_token", unreadable)
        counters.faults.raise_if_all_failed()
        return StepBatch(
            samples=samples,
            groups=groups,
            traces=tuple(traces),
            metrics={**counters.counts, **collapse_metrics(groups)},
            faults=counters.faults.messages(),
            left_out=tuple(left_out),
        )

    def _unreadable(self, group: Group) -> int:
        """Return how many of a group's responses hold an id without a token."""
        return sum(not self.ids_without_token.isdisjoint(rollout.completion.token_ids) for rollout in group.rollouts)

    @property
    def overlaps(self) -> bool:
        """Whether groups are diagnosed while others are still being sampled."""
        return self.engine.streams and self.components.distills and not self.components.demonstration.sees_batch

    def _requester(self, role: ChatRole) -> Requester:
        encoders = {"reflector": self.encode_reflection, "teacher": self.encode_for_teacher}
        return Requester(
            engine=self.engine,
            encode=encoders.get(role) or self.encode,
            decode=self.decode,
            begins_in_thinking=role in self.roles_in_thinking,
        )

    @property
    def _sampler(self) -> GroupSampler:
        return GroupSampler(
            requester=self._requester("student"),
            verifier=self.components.verifier,
            sampling=self.sampling,
            seed=self.seed,
            on_phase=self.on_phase,
        )

    @property
    def _diagnoser(self) -> Diagnoser:
        return Diagnoser(components=self.components, requester=self._requester("reflector"), seed=self.seed)

    def _share(self, opened: Sequence[OpenGroup]) -> Sequence[OpenGroup]:
        indices = self.ranks.assigned_indices(len(opened)) if self.ranks is not None else range(len(opened))
        return [opened[index] for index in indices]

    def _sample_and_diagnose(
        self, opened: Sequence[OpenGroup], step: int, counters: Counters, end: StepEnd | None
    ) -> tuple[tuple[Group, ...], list[Diagnosis]]:
        """Sample and diagnose this rank's share of the groups, overlapped if the engine and the components allow it."""
        sampled = self._sampler.groups(self._share(opened), counters, end)
        diagnose = self._overlapped if self.overlaps else self._one_after_the_other
        return diagnose(sampled, [group.problem for group in opened], step, counters)

    def _one_after_the_other(
        self, sampling: Iterable[Group], problems: Sequence[Problem], step: int, counters: Counters
    ) -> tuple[tuple[Group, ...], list[Diagnosis]]:
        """Sample everything, then diagnose everything: the reflector's prompts are one batch."""
        sampled = list(sampling)
        groups = batch = _in_order(problems, [sampled])
        if self.ranks is not None and self.components.demonstration.sees_batch:
            batch = _in_order(problems, self.ranks.gather(groups))
        if self.components.distills:
            self.on_phase("reflect")
        began = time.perf_counter()
        diagnosis = self._diagnoser.diagnose(groups, batch, step)
        if self.components.distills:
            counters.add_phase("reflect", 0, time.perf_counter() - began)
        return groups, [diagnosis]

    def _overlapped(
        self, sampling: Iterable[Group], problems: Sequence[Problem], step: int, counters: Counters
    ) -> tuple[tuple[Group, ...], list[Diagnosis]]:
        """Diagnose each group in a thread as soon as it is sampled; the engine answers both kinds of requests at once."""
        threads = ThreadPoolExecutor(_REFLECTION_THREADS, "rosd-kit-reflect", same_device())
        diagnoser = self._diagnoser
        try:
            pending, sampled = {}, []
            for group in sampling:
                sampled.append(group)
                present = copy_context()  # a thread of its own has no step
                pending[group.problem.id] = threads.submit(present.run, diagnoser.diagnose, [group], [group], step)
            groups = _in_order(problems, [sampled])
            self.on_phase("reflect")
            began = time.perf_counter()
            diagnoses = [pending[group.problem.id].result() for group in groups]
            counters.add_phase("reflect", 0, time.perf_counter() - began)
            return groups, diagnoses
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _count_rollouts(groups: Sequence[Group], counters: Counters) -> None:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    spreads = [_reward_spread(group) for group in groups]
    judged = [rollout.verdict for rollout in rollouts if rollout.verdict.status != "error"]
    counters.add("rollout/count", len(rollouts))
    counters.add("rollout/truncated", sum(rollout.completion.finish_reason == "length" for rollout in rollouts))
    counters.add("rollout/reward_spread", sum(spreads) / max(1, len(spreads)))
    counters.add("rollout/length", sum(len(r.completion.token_ids) for r in rollouts) / max(1, len(rollouts)))
    counters.add("rollout/success", sum(verdict.success for verdict in judged) / max(1, len(judged)))


def _reward_spread(group: Group) -> float:
    """Return the highest less the lowest reward of a group."""
    rewards = [rollout.verdict.score for rollout in group.rollouts if rollout.verdict.status != "error"]
    return max(rewards) - min(rewards) if rewards else 0.0


def _by_problem(problems: Sequence[Problem], traces: Sequence[Trace]) -> list[Trace]:
    """Return traces in the order of their problems."""
    order = {problem.id: index for index, problem in enumerate(problems)}
    return sorted(traces, key=lambda trace: order[trace.case.problem.id])


def _in_order(problems: Sequence[Problem], shares: Sequence[Sequence[Group]]) -> tuple[Group, ...]:
    """Return all groups of all shares in the order of their problems."""
    by_problem = {group.problem.id: group for groups in shares for group in groups}
    return tuple(by_problem[problem.id] for problem in problems if problem.id in by_problem)
