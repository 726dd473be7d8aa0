"""From problems to verified groups: requests, completions, verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rosd_kit.contracts import Verifier
from rosd_kit.faults import check_verdicts
from rosd_kit.pipeline.counters import Counters
from rosd_kit.pipeline.requests import Requester
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import SamplingSettings
from rosd_kit.types import Completion, GenerateRequest, Group, Problem, Rollout, Verdict


@dataclass(frozen=True, kw_only=True)
class GroupSampler:
    """Samples `group_size` rollouts per problem and has them verified. All randomness comes from `seed` and the step."""

    requester: Requester
    verifier: Verifier
    sampling: SamplingSettings
    group_size: int
    seed: int
    on_phase: Callable[[str], None]

    def groups(self, problems: Sequence[Problem], indices: Sequence[int], step: int, counters: Counters) -> Iterator[Group]:
        """Yield the verified group of each problem in `indices` as soon as its last completion is there.

        A prompt over the budget becomes an `overlong` outcome. Seeds depend on a problem's index in the whole step, not on
        who samples it.
        """
        self.on_phase("generate")
        requests = [request for index in indices for request in self._requests(problems[index], index, step)]
        members: list[dict[int, Completion]] = [{} for _ in indices]
        completions = self.requester.stream(requests, self.sampling.max_prompt_tokens)
        tokens, waited = 0, 0.0
        for number in range(len(requests)):
            began = time.perf_counter()
            position, completion = next(completions)
            waited += time.perf_counter() - began
            if number == 0 and not self.requester.engine.streams:
                self.on_phase("verify")
            tokens += len(completion.token_ids)
            counters.add(f"finish/{completion.finish_reason}")
            group, member = divmod(position, self.group_size)
            members[group][member] = completion
            if len(members[group]) == self.group_size:
                in_order = [members[group][i] for i in range(self.group_size)]
                yield self._verified(problems[indices[group]], in_order, counters)
        next(completions, None)  # an engine may clean up after its last completion
        counters.add_phase("generate", tokens, waited)

    def _requests(self, problem: Problem, index: int, step: int) -> list[GenerateRequest]:
        sampling = self.sampling.to_request()
        prompt = self.requester.encode(problem.messages)
        return [
            GenerateRequest(
                prompt_ids=prompt,
                sampling=sampling,
                seed=stable_seed(self.seed, "rollout", step, index, member),
                reference=problem.solution,
            )
            for member in range(self.group_size)
        ]

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
