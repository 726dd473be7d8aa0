"""From verified groups to diagnosed cases: gate, demonstrations, true first error, reflections."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rosd_kit.faults import check_decision, check_reflections, check_truth, check_views
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.oracle import judge_reflection, judged_truth
from rosd_kit.pipeline.requests import ReflectionRequests, Requester
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.seeds import stable_seed
from rosd_kit.types import Case, Completion, FirstError, Group, LeftOut, Passed, Problem, Reflection, Rollout


@dataclass(frozen=True, kw_only=True)
class DiagnosedRollout:
    """A rollout that passed the gate: its group, the gate's decision on it, and all that is known about it."""

    group: Group
    passed: Passed
    case: Case


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The diagnosed rollouts of some groups, why the others were left out, and what was counted on the way."""

    rollouts: list[DiagnosedRollout]
    counters: Counters
    left_out: list[LeftOut]


@dataclass(frozen=True, kw_only=True)
class Diagnoser:
    """Decides which rollouts are trained on and gathers what is known about each. Safe to call from several threads."""

    components: BuiltComponents
    requester: Requester
    seed: int

    def diagnose(self, groups: Sequence[Group], batch: Sequence[Group], step: int) -> Diagnosis:
        """Gate these groups of a batch and reflect on the rollouts that pass."""
        counters, left_out = Counters(), list[LeftOut]()
        if self.components.gate.config.truncated == "drop":
            for group in groups:
                _leave_out(group, filter(_is_cut_off, group.rollouts), "truncated", counters, left_out)
            groups, batch = ([_finished(group) for group in whole] for whole in (groups, batch))
        rollouts = []
        for group, passed in self._gate(groups, counters, left_out):
            case = self._case(group, passed, batch, step, counters)
            if case is None:
                left_out.append(LeftOut(problem_id=group.problem.id, index=passed.index, reason="demonstration failed"))
            else:
                rollouts.append(DiagnosedRollout(group=group, passed=passed, case=case))
        if self.components.distills:
            reflected = self._reflect([one.case for one in rollouts], step, counters)
            rollouts = [replace(one, case=case) for one, case in zip(rollouts, reflected, strict=True)]
        return Diagnosis(rollouts=rollouts, counters=counters, left_out=left_out)

    def _gate(self, groups: Sequence[Group], counters: Counters, left_out: list[LeftOut]) -> list[tuple[Group, Passed]]:
        gate, all_passed = self.components.gate, []
        for group in groups:
            judged = tuple(rollout for rollout in group.rollouts if rollout.verdict.status != "error")
            failed = (rollout for rollout in group.rollouts if rollout.verdict.status == "error")
            _leave_out(group, failed, "verifier_error", counters, left_out)  # it says nothing about the answer
            if not judged:
                continue
            gated = replace(group, rollouts=judged)
            decision = counters.attempt(
                gate, f"problem {group.problem.id!r}", partial(gate.decide, gated), check_decision(gated)
            )
            passing = {passed.index for passed in decision.passed} if decision else set()
            reason = f"gate: {decision.outcome}" if decision else "gate failed"
            left_out += [
                LeftOut(problem_id=group.problem.id, index=rollout.index, reason=reason)
                for rollout in judged
                if rollout.index not in passing
            ]
            if decision is None:
                continue
            counters.add(f"gate/{decision.outcome}")
            for passed in decision.passed:
                rollout = _rollout(group, passed)
                if gate.config.truncated == "mask" and _is_cut_off(rollout):
                    _leave_out(group, [rollout], "truncated", counters, left_out)
                elif why := _untrainable(rollout.completion):
                    _leave_out(group, [rollout], why, counters, left_out)
                else:
                    all_passed.append((group, passed))
        return all_passed

    def _case(self, group: Group, passed: Passed, batch: Sequence[Group], step: int, counters: Counters) -> Case | None:
        """Gather a rollout's demonstrations and, in procedural tasks, its true first error; None if the former fail."""
        rollout = _rollout(group, passed)
        rng = random.Random(stable_seed(self.seed, "demonstration", step, group.problem.id, passed.index))
        demonstration = self.components.demonstration
        views = counters.attempt(
            demonstration,
            describe(group.problem, rollout),
            lambda: demonstration.views(group, rollout, batch, rng),
            check_views,
        )
        if views is None:
            return None
        truth = self._first_error(group.problem, rollout, counters)
        return Case(problem=group.problem, rollout=rollout, views=views, truth=truth)

    def _first_error(self, problem: Problem, rollout: Rollout, counters: Counters) -> FirstError | None:
        """Ask the task for the true first error; a task that fails at it counts as not knowing."""
        task, text = self.components.task, rollout.completion.text
        answer = counters.attempt(
            task, describe(problem, rollout), lambda: (task.first_error(problem, text),), check_truth(len(text))
        )
        return answer[0] if answer else None

    def _reflect(self, cases: Sequence[Case], step: int, counters: Counters) -> list[Case]:
        """Attach a reflection to every case and judge it where the truth is known."""
        generate = ReflectionRequests(requester=self.requester, counters=counters, seed=(self.seed, "reflect", step))
        reflections = self._reflections(cases, generate, counters)
        counters.add_phase("reflect", generate.tokens, 0.0)
        for case, reflection in zip(cases, reflections, strict=True):
            counters.add(f"reflect/{reflection.status}")
            if truth := judged_truth(case):
                for name, amount in judge_reflection(case.rollout.completion.text, truth, reflection).items():
                    counters.add(f"oracle/{name}", amount)
        return [replace(case, reflection=r) for case, r in zip(cases, reflections, strict=True)]

    def _reflections(self, cases: Sequence[Case], generate: ReflectionRequests, counters: Counters) -> list[Reflection]:
        """Reflect on all cases in one batch; if that fails, on each half, so that a bad case costs no other its reflection.

        An error of the engine is not the reflector's fault and ends the run.
        """
        reflector, attempt = self.components.reflector, Counters()
        subject = describe(cases[0].problem, cases[0].rollout) if len(cases) == 1 else f"{len(cases)} rollouts together"
        reflections = attempt.attempt(
            reflector, subject, lambda: reflector.reflect(cases, generate), check_reflections(len(cases))
        )
        if reflections is None and generate.failure is not None:
            raise generate.failure
        if reflections is None and len(cases) > 1:
            half = len(cases) // 2
            first, second = cases[:half], cases[half:]
            return [*self._reflections(first, generate, counters), *self._reflections(second, generate, counters)]
        counters.merge(attempt)
        return [Reflection(status="fault")] * len(cases) if reflections is None else list(reflections)


def describe(problem: Problem, rollout: Rollout) -> str:
    """Name a rollout in messages."""
    return f"rollout {rollout.index} of problem {problem.id!r}"


def _leave_out(group: Group, rollouts: Iterable[Rollout], reason: str, counters: Counters, left_out: list[LeftOut]) -> None:
    """Count rollouts under `skip/<reason>` and add them to those that were left out."""
    for rollout in rollouts:
        counters.add(f"skip/{reason}")
        left_out.append(LeftOut(problem_id=group.problem.id, index=rollout.index, reason=reason))


def _rollout(group: Group, passed: Passed) -> Rollout:
    """Return the rollout that passed; its position may differ from its index."""
    return next(rollout for rollout in group.rollouts if rollout.index == passed.index)


def _is_cut_off(rollout: Rollout) -> bool:
    return rollout.completion.finish_reason == "length"


def _finished(group: Group) -> Group:
    """Return the group without the rollouts that were cut off."""
    return replace(group, rollouts=tuple(rollout for rollout in group.rollouts if not _is_cut_off(rollout)))


def _untrainable(completion: Completion) -> str | None:
    """Return why a response cannot be trained on, or None."""
    if not completion.token_ids:
        return "empty_response"
    complete = len(completion.logprobs) == len(completion.token_spans) == len(completion.token_ids)
    return None if complete and all(map(math.isfinite, completion.logprobs)) else "bad_logprobs"
