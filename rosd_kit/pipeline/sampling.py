"""From problems to verified groups: requests, completions, verdicts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rosd_kit.contracts import Verifier
from rosd_kit.faults import check_verdicts
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.open_groups import OpenGroup, StepEnd
from rosd_kit.pipeline.requests import Requester
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import SamplingSettings
from rosd_kit.types import Completion, GenerateRequest, Group, Problem, Rollout, Verdict


@dataclass(frozen=True, kw_only=True)
class GroupSampler:
    """Samples the rollouts of groups and has them verified. All randomness comes from `seed` and a group's place."""

    requester: Requester
    verifier: Verifier
    sampling: SamplingSettings
    seed: int
    on_phase: Callable[[str], None]

    def groups(self, opened: Sequence[OpenGroup], counters: Counters, end: StepEnd | None = None) -> Iterator[Group]:
        """Yield each group, verified, as soon as its last completion is there.

        A prompt over the budget becomes an `overlong` outcome. With `end`, stop what is open once the step has enough groups;
        `end.left` then holds the others.
        """
        self.on_phase("generate")
        places = [(number, member) for number, group in enumerate(opened) for member in group.unfinished]
        begun = {place: one for place, (number, member) in enumerate(places) if (one := opened[number].completions[member])}
        prompts = [self._prompt(group) for group in opened]
        requests = [self._request(opened[number], member, prompts[number]) for number, member in places]
        members = [list(group.completions) for group in opened]
        waiting = [len(group.unfinished) for group in opened]
        complete = deque(number for number, count in enumerate(waiting) if count == 0)
        stream = self.requester.rollouts(requests, self.sampling.max_prompt_tokens, begun, end.stop if end else None)
        tokens, continued, waited, taken = 0, 0, 0.0, set()
        for sampled in range(len(requests) + 1):
            while complete:
                number = complete.popleft()
                if end is None or end.has_room():
                    taken.add(number)
                    continued += _tokens(opened[number].completions)
                    whole = [one for one in members[number] if one is not None]
                    yield self._verified(opened[number].problem, whole, counters)
            if sampled == len(requests):
                break
            began = time.perf_counter()
            position, completion = next(stream)
            waited += time.perf_counter() - began
            if sampled == 0 and not self.requester.engine.streams:
                self.on_phase("verify")
            number, member = places[position]
            tokens += len(completion.token_ids) - _tokens([begun.get(position)])
            if completion.finish_reason == "abort" and len(completion.token_ids) >= self.sampling.max_new_tokens:
                completion = replace(completion, finish_reason="length")  # stopped with its last token
            if completion.finish_reason == "abort":
                members[number][member] = completion if completion.token_ids else None
            else:
                members[number][member] = completion
                counters.add(f"finish/{completion.finish_reason}")
                waiting[number] -= 1
                if waiting[number] == 0:
                    complete.append(number)
        next(stream, None)  # an engine may clean up after its last completion
        if end is not None:
            counters.add("tokens/continued", continued)
            left = [number for number in range(len(opened)) if number not in taken]
            end.left += [replace(opened[number], completions=tuple(members[number])) for number in left]
        counters.add_phase("generate", tokens, waited)

    def _prompt(self, group: OpenGroup) -> tuple[int, ...]:
        """Return the ids of a group's prompt: those that it began with, although a template may write today's date."""
        begun = next((one.prompt_ids for one in group.completions if one is not None), None)
        return self.requester.encode(group.problem.messages) if begun is None else begun

    def _request(self, group: OpenGroup, member: int, prompt: tuple[int, ...]) -> GenerateRequest:
        """Return the request for a rollout: to begin it, or to continue after what there is of it."""
        sampling, begun = self.sampling.to_request(), group.completions[member]
        seed: tuple[int | str, ...] = ("rollout", group.step, group.index, member)
        if begun is not None:
            count = len(begun.token_ids)
            prompt, seed = prompt + begun.token_ids, (*seed, count)
            sampling = replace(sampling, max_new_tokens=sampling.max_new_tokens - count)
        return GenerateRequest(
            prompt_ids=prompt, sampling=sampling, seed=stable_seed(self.seed, *seed), reference=group.problem.solution
        )

    def _verified(self, problem: Problem, completions: Sequence[Completion], counters: Counters) -> Group:
        verdicts = counters.attempt(
            self.verifier,
            f"problem {problem.id!r}",
            lambda: self.verifier.judge_group(problem, completions),
            check_verdicts(len(completions)),
        )
        if verdicts is None:
            verdicts = [Verdict(score=0.0, success=False, status="error")] * len(completions)
        for verdict in verdicts:
            counters.add(f"verify/{verdict.status}")
        pairs = enumerate(zip(completions, verdicts, strict=True))
        return Group(problem=problem, rollouts=tuple(Rollout(index=i, completion=c, verdict=v) for i, (c, v) in pairs))


def _tokens(completions: Sequence[Completion | None]) -> int:
    """Return how many tokens there are already."""
    return sum(len(one.token_ids) for one in completions if one is not None)
