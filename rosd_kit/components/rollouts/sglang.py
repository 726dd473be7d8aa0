"""Rollouts by SGLang servers, which get the student's weights after every step and are checked against the trainer.

start     launch servers or find those at `url`, wait until they are ready, bring them the weights
generate  requests shared out; what finishes first comes first; a failed server is mended and its requests sent again
sync      new weights under a new label; a probe must then give the trainer's numbers
rest      the memory of a GPU that trainer and server share changes hands
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rosd_kit.contracts import Policy, RolloutEngine, Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.sglang.options import Launch, ProbeSettings
from rosd_kit.sglang.protocol import ServerFault
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

if TYPE_CHECKING:
    from rosd_kit.sglang.client import Client
    from rosd_kit.sglang.factory import Builder
    from rosd_kit.sglang.pool import Pool
    from rosd_kit.sglang.protocol import Answer
    from rosd_kit.sglang.replica import Member
    from rosd_kit.sglang.weight_transfer import WeightSet


class SGLangEngine(RolloutEngine):
    """Samples with SGLang: servers at `url`, or launched with the run. Weights follow every step and are verified."""

    name = "sglang"
    provides = frozenset({"overlap"})
    streams = True

    class Config(RolloutEngine.Config):
        """Servers, transfer of weights, and checks."""

        url: str | list[str] = Field(default_factory=list)
        """Servers that already run, for example `http://127.0.0.1:30000`; with none, `launch` says what is started.

        Several processes share them out: each asks servers of its own and brings them its weights."""
        router: str | None = None
        """SGLang's router in front of `url`: requests go through it, weights still go to each server."""
        initial_url: str | list[str] = Field(default_factory=list)
        """Servers kept at the weights the run began with, for frozen reflectors; without, the others swap weights."""
        launch: Launch = Launch()
        """How to launch servers when there is no `url`."""
        sync: Literal["disk", "tensor", "distributed"] = "disk"
        """How weights travel: files, memory of the same host, or a process group (NCCL on GPUs, gloo on CPUs)."""
        sync_dir: str | None = None
        """Folder for `disk`, seen by trainer and servers alike; null: memory-backed where there is room, else the run's."""
        sync_host: str = "127.0.0.1"
        """Address of the trainer for `distributed`, as the servers reach it."""
        colocated: bool = False
        """Trainer and server share a GPU: the server gives its memory away while the trainer works."""
        concurrency: PositiveInt = 256
        """Most requests under way at each server."""
        timeout: PositiveFloat = 600.0
        """Seconds without an answer after which a request has failed."""
        tries: PositiveInt = 6
        """How often a request is tried."""
        relaunches: NonNegativeInt = 3
        """How often in a row a launched server is started again without having answered in between."""
        patience: PositiveFloat = 120.0
        """Seconds to wait for a server at `url` that is gone to come back."""
        api_key_env: str | None = None
        """Name of the environment variable with the servers' API key."""
        any_version: bool = False
        """Go on with a version of SGLang that this client was not tried with."""
        check: ProbeSettings = ProbeSettings()
        """Comparison of engine and trainer."""

        @model_validator(mode="after")
        def _router_has_servers(self) -> Self:
            if self.router and not self.url:
                raise ValueError("router needs url: the servers behind it, to which the weights go")
            return self

    Config.free_on_resume = frozenset(Config.model_fields)

    @classmethod
    def offers(cls, options: Config) -> frozenset[str]:
        return cls.provides - {"overlap"} if options.colocated else cls.provides

    def wants_initial(self) -> bool:
        return bool(self.config.initial_url)

    def start(self, student: Policy, site: Site | None = None) -> None:
        from rosd_kit.sglang.event_loop import LoopThread
        from rosd_kit.sglang.factory import Builder
        from rosd_kit.sglang.probe import Checker

        self.student = student
        self.site = site or Site()
        live, initial = self._own_servers("url"), self._own_servers("initial_url")
        self.version = 0
        self._name = secrets.token_hex(4)
        self._numbers: defaultdict[str, float] = defaultdict(float)
        if self.site.folder is not None:
            self.site.folder.mkdir(exist_ok=True)
        self._compared: set[tuple[int, float]] = set()
        self._asleep: set[str] = set()
        self._rested: dict[Member, int] = {}
        self._closed = False
        self._users = 0
        self._changing = threading.Condition()
        self._pools: list[Pool] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="rosd-kit-")
        self._loop = LoopThread()
        self._checker = Checker(student=student, options=self.config.check, loop=self._loop)
        builder = Builder(
            student=student,
            config=self.config,
            site=self.site,
            folder=self.site.folder or Path(self._temporary.name),
            name=self._name,
            progress=self.site.tell,
            count=self._count,
        )
        try:
            self._pool = self._begin(builder, live, "live")
            self._initial = self._begin(builder, initial, "initial") if initial else None
        except BaseException:
            self.close()
            raise

    def _own_servers(self, field: str) -> list[str]:
        """Return which of the servers named in a field this process asks. Raises `RecipeError` where some would have none."""
        urls, count = _listed(getattr(self.config, field)), self.site.count
        if count > 1 and self.config.router:
            raise RecipeError(
                f"rollout.router: {count} processes each need servers of their own, and a router would mix them. Use null."
            )
        if urls and len(urls) < count:
            raise RecipeError(
                f"rollout.{field}: {len(urls)} of {count} processes would have a server, and each needs its own. "
                f"Give at least {count} addresses, or launch servers with the run (rollout.launch)."
            )
        return urls[self.site.rank :: count]

    def _begin(self, builder: Builder, urls: Sequence[str], which: PolicyWeights) -> Pool:
        """Return servers that are ready and hold these weights."""

        async def build() -> Pool:
            self._pools.append(builder.pool(urls, which))
            await self._pools[-1].begin()
            return self._pools[-1]

        pool = self._loop.run(build())
        self._load(pool, which)
        return pool

    def sync(self, student: Policy, version: int) -> None:
        self.version = version
        self._wake("weights")
        with self._holding("live"):
            pass
        self._wake("kv_cache")

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        found = dict(self.stream(requests, weights=weights))
        return [found[place] for place in range(len(requests))]

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        self._refuse_unknown_ids(requests)
        with self._holding(weights) as pool:
            yield from self._stream(pool, requests, weights)

    def _stream(
        self, pool: Pool, requests: Sequence[GenerateRequest], weights: PolicyWeights
    ) -> Iterator[tuple[int, Completion]]:
        fitting = [place for place, request in enumerate(requests) if len(request.prompt_ids) < pool.context - 1]
        for place in sorted(set(range(len(requests))) - set(fitting)):
            yield place, self._completion(requests[place], None, weights)
        questions = [partial(self._question, pool, requests[place]) for place in fitting]
        compared: list[Completion] = []
        for at, answer in self._loop.stream(questions):
            completion = self._completion(requests[fitting[at]], answer, weights)
            if len(compared) < self.config.check.samples and completion.token_ids:
                compared.append(completion)
            yield fitting[at], completion
        if weights == "live" and compared:
            self._compare_if_due(compared, requests[fitting[0]].sampling.temperature)

    def _compare_if_due(self, completions: Sequence[Completion], temperature: float) -> None:
        every = self.config.check.every
        if every == 0 or self.version % every or (self.version, temperature) in self._compared:
            return
        self._compared.add((self.version, temperature))
        found = self._checker.compare(self._pool, completions, temperature)
        for name in ("greatest", "mean", "ratio_least", "ratio_greatest"):
            self._numbers[f"engine/mismatch_{name}"] = getattr(found, name)

    def rest(self) -> None:
        if self.config.colocated and not self._asleep:
            self._loop.run(self._pool.ask_each(lambda member: member.client.forget()))
            self._tell_all("/release_memory_occupation", {"tags": ["kv_cache", "weights"]})
            self._asleep = {"kv_cache", "weights"}
            self._rested = {member: member.starts for member in self._pool.members}

    def metrics(self) -> Mapping[str, float]:
        numbers, self._numbers = self._numbers, defaultdict(float)
        return dict(numbers)

    def close(self) -> None:
        self._closed = True
        self._loop.cancel()
        with self._changing:
            self._changing.notify_all()
        while self._pools:
            self._loop.run(self._pools.pop().end())
        self._loop.close()
        self._temporary.cleanup()

    # -- weights

    def _weight_set(self, which: PolicyWeights) -> WeightSet:
        from rosd_kit.sglang.weight_transfer import WeightSet

        label = "initial" if which == "initial" else str(self.version)
        return WeightSet(f"{self._name}-{label}", partial(self.student.full_weights, which))

    @contextmanager
    def _holding(self, which: PolicyWeights) -> Iterator[Pool]:
        """Yield servers that hold these weights for as long as they are used; wait for requests that need others."""
        if which == "initial" and self._initial is not None:
            yield self._initial
            return
        with self._changing:
            self._changing.wait_for(lambda: self._closed or self._users == 0 or self._holds(which))
            if self._closed:
                raise EngineError("rollout: the engine was closed.")
            if not self._holds(which):
                self._load(self._pool, which)
            self._users += 1
        try:
            yield self._pool
        finally:
            with self._changing:
                self._users -= 1
                self._changing.notify_all()

    def _holds(self, which: PolicyWeights) -> bool:
        return self._pool.weights is not None and self._pool.weights.label == self._weight_set(which).label

    def _load(self, pool: Pool, which: PolicyWeights) -> None:
        self._loop.run(pool.load(self._weight_set(which)))
        self._wake("kv_cache")  # which the probe needs, and the new weights did not
        if self.config.check.probe:
            found = self._checker.probe(pool, which)
            self._numbers["engine/probe_max"] = max(self._numbers["engine/probe_max"], found.greatest)

    def _tell_all(self, route: str, payload: object) -> None:
        self._loop.run(self._pool.ask_each(lambda member: member.client.post(route, payload)))

    def _wake(self, what: str) -> None:
        """Let the servers take their memory again; one that was started anew meanwhile has never given it away.

        SGLang ends itself when it is told twice. So this is said again only after a plain refusal to serve, not when the
        answer was lost; if it did not arrive, the server fails at what comes next and is mended like any other.
        """
        told: set[Member] = set()

        async def resume(member: Member) -> None:
            if self._rested.get(member) != member.starts or member in told:
                return
            told.add(member)
            try:
                await member.client.post("/resume_memory_occupation", {"tags": [what]})
            except ServerFault as fault:
                if fault.kind == "unavailable":
                    told.discard(member)
                raise

        if what in self._asleep:
            self._loop.run(self._pool.ask_each(resume))
            self._asleep.discard(what)

    # -- requests

    async def _question(self, pool: Pool, request: GenerateRequest) -> Answer:
        budget = min(request.sampling.max_new_tokens, pool.context - len(request.prompt_ids))
        ends = sorted(self.student.end_ids)

        async def ask(client: Client) -> Answer:
            return await client.generate(request.prompt_ids, request.sampling, budget=budget, seed=request.seed, end_ids=ends)

        return await pool.ask(ask)

    def _refuse_unknown_ids(self, requests: Sequence[GenerateRequest]) -> None:
        """Raise `EngineError` for ids outside the vocabulary: a server that reads one dies."""
        for request in requests:
            for token in (min(request.prompt_ids, default=0), max(request.prompt_ids, default=0)):
                if not 0 <= token < self.student.vocabulary:
                    raise EngineError(
                        f"rollout: a prompt holds the id {token}, the model knows 0 to {self.student.vocabulary - 1}. "
                        "Tokenizer and model do not belong together: correct model.path."
                    )

    def _completion(self, request: GenerateRequest, answer: Answer | None, weights: PolicyWeights) -> Completion:
        ids = answer.token_ids if answer else ()
        text, spans = decode_with_spans(self.student.tokenizer, ids)
        ended = bool(ids) and ids[-1] in self.student.end_ids
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=ids,
            logprobs=answer.logprobs if answer else (),
            text=text,
            token_spans=tuple(spans),
            finish_reason="overlong" if answer is None else "stop" if ended else "length",
            weight_version=self.version if weights == "live" else 0,
        )

    def _count(self, name: str, amount: float) -> None:
        self._numbers[name] += amount


def _listed(urls: str | Sequence[str]) -> list[str]:
    return [urls] if isinstance(urls, str) else list(urls)
