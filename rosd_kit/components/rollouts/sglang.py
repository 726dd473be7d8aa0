"""Rollouts by SGLang servers, which get the student's weights after every step and are checked against the trainer.

start     launch servers or find those at `url`, wait until they are ready, bring them the weights
generate  requests shared out; what finishes first comes first; a failed server is mended and its requests sent again
sync      new weights under a new label; a probe must then give the trainer's numbers
rest      the memory of a GPU that trainer and server share changes hands
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.sglang.options import Check, Launch
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, Weights

if TYPE_CHECKING:
    from rosd_kit.sglang.carriers import Carrier, WeightSet
    from rosd_kit.sglang.client import Client
    from rosd_kit.sglang.member import Member
    from rosd_kit.sglang.pool import Pool
    from rosd_kit.sglang.protocol import Answer
    from rosd_kit.sglang.server import Command
    from rosd_kit.train.student import Student


class SGLangEngine(RolloutEngine):
    """Samples with SGLang: servers at `url`, or launched with the run. Weights follow every step and are verified."""

    name = "sglang"
    streams = True

    class Config(RolloutEngine.Config):
        """Servers, transfer of weights, and checks."""

        url: str | list[str] = Field(default_factory=list)
        """Servers that already run, for example `http://127.0.0.1:30000`; with none, `launch` says what is started."""
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
        check: Check = Check()
        """Comparison of engine and trainer."""

    Config.free_on_resume = frozenset(Config.model_fields)

    def start(self, student: Student, site: Site | None = None) -> None:
        from rosd_kit.sglang.checks import Checker
        from rosd_kit.sglang.threads import LoopThread

        self.student = student
        self.site = site or Site()
        self.version = 0
        self._name = secrets.token_hex(4)
        self._numbers: defaultdict[str, float] = defaultdict(float)
        self._agreed: int | None = None
        self._resting = False
        self._users = 0
        self._changing = threading.Condition()
        self._folder = self.site.folder or Path(tempfile.mkdtemp(prefix="rosd-kit-"))
        self._loop = LoopThread()
        self._checker = Checker(student=student, options=self.config.check, loop=self._loop)
        try:
            self._carrier = self._choose_carrier()
            self._pool = self._loop.run(self._gather(_listed(self.config.url)))
            initial = _listed(self.config.initial_url)
            self._initial = self._loop.run(self._gather(initial)) if initial else None
            self._loop.run(self._pool.begin())
            if self._initial is not None:
                self._loop.run(self._initial.begin())
                self._load(self._initial, "initial")
            self._load(self._pool, "live")
        except BaseException:
            self.close()
            raise

    def sync(self, student: Student, version: int) -> None:
        self.version = version
        self._wake("weights")
        with self._holding("live"):
            pass
        self._wake("kv_cache")
        self._resting = False

    def generate(self, requests: Sequence[GenerateRequest], *, weights: Weights = "live") -> list[Completion]:
        found = dict(self.stream(requests, weights=weights))
        return [found[place] for place in range(len(requests))]

    def stream(self, requests: Sequence[GenerateRequest], *, weights: Weights = "live") -> Iterator[tuple[int, Completion]]:
        self._refuse_unknown_ids(requests)
        with self._holding(weights) as pool:
            yield from self._stream(pool, requests, weights)

    def _stream(self, pool: Pool, requests: Sequence[GenerateRequest], weights: Weights) -> Iterator[tuple[int, Completion]]:
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
        every = self.config.check.every
        due = every > 0 and self.version % every == 0 and self._agreed != self.version
        if weights == "live" and compared and due:
            self._agreed = self.version
            found = self._checker.compare(self._pool, compared, requests[fitting[0]].sampling.temperature)
            for name in ("greatest", "mean", "ratio_least", "ratio_greatest"):
                self._numbers[f"engine/mismatch_{name}"] = getattr(found, name)

    def rest(self) -> None:
        if self.config.colocated and not self._resting:
            self._tell_all("/flush_cache", {})
            self._tell_all("/release_memory_occupation", {"tags": ["kv_cache", "weights"]})
            self._resting = True

    def metrics(self) -> Mapping[str, float]:
        numbers, self._numbers = self._numbers, defaultdict(float)
        return dict(numbers)

    def close(self) -> None:
        for pool in (getattr(self, "_pool", None), getattr(self, "_initial", None)):
            if pool is not None:
                self._loop.run(pool.end())
        if hasattr(self, "_carrier"):
            self._loop.run(self._carrier.close())
        self._loop.close()

    # -- servers

    async def _gather(self, urls: Sequence[str]) -> Pool:
        """Return the servers at some addresses, or launched ones where there are none."""
        from rosd_kit.sglang.pool import Pool

        config = self.config
        members = [self._member(url, None) for url in urls] or [
            self._member(command.url, command, number) for number, command in enumerate(self._launched())
        ]
        router = self._client(config.router) if config.router and urls else None
        return Pool(members, concurrency=config.concurrency, tries=config.tries, count=self._count, router=router)

    def _member(self, url: str, command: Command | None, number: int = 0) -> Member:
        from rosd_kit.sglang.member import Member, Patience
        from rosd_kit.sglang.server import Server

        config = self.config
        log = self._folder / (f"sglang-{number}.log" if number else "sglang.log")
        return Member(
            self._client(url),
            server=Server(command, log) if command else None,
            carrier=self._carrier,
            patience=Patience(ready=config.launch.deadline, back=config.patience, relaunches=config.relaunches),
            progress=self.site.tell,
            count=self._count,
        )

    def _launched(self) -> list[Command]:
        from rosd_kit.sglang.launching import launch_commands

        config = self.config
        return launch_commands(
            self.student, config.launch, folder=self._folder, colocated=config.colocated, api_key=self._api_key()
        )

    def _client(self, url: str) -> Client:
        from rosd_kit.sglang.client import Client

        return Client(url, timeout=self.config.timeout, api_key=self._api_key(), any_version=self.config.any_version)

    def _api_key(self) -> str | None:
        name = self.config.api_key_env
        if name is not None and not os.environ.get(name):
            raise RecipeError(f"rollout.api_key_env: the environment has no {name!r}. Set it, or use null.")
        return os.environ[name] if name is not None else None

    # -- weights

    def _choose_carrier(self) -> Carrier:
        from rosd_kit.sglang import carriers

        config = self.config
        if config.sync == "tensor":
            return carriers.TensorCarrier()
        if config.sync == "distributed":
            return carriers.DistributedCarrier(host=config.sync_host, device=self.student.device)
        return carriers.DiskCarrier(self._sync_folder(), self._describe)

    def _describe(self, folder: Path) -> None:
        self.student.model.config.save_pretrained(folder)

    def _sync_folder(self) -> Path:
        if self.config.sync_dir:
            return Path(self.config.sync_dir).absolute() / f"rosd-kit-{self._name}"
        shared = Path("/dev/shm")
        needed = 2 * sum(p.nbytes for p in self.student.model.parameters())
        if shared.is_dir() and os.access(shared, os.W_OK):
            place = os.statvfs(shared)
            if place.f_bavail * place.f_frsize > 2 * needed:
                return shared / f"rosd-kit-{self._name}"
        return self._folder.absolute() / "weights"

    def _weight_set(self, which: Weights) -> WeightSet:
        from rosd_kit.sglang.carriers import WeightSet
        from rosd_kit.train.weights import full_weights

        label = "initial" if which == "initial" else str(self.version)
        return WeightSet(f"{self._name}-{label}", partial(full_weights, self.student, which))

    @contextmanager
    def _holding(self, which: Weights) -> Iterator[Pool]:
        """Yield servers that hold these weights for as long as they are used; wait for requests that need others."""
        if which == "initial" and self._initial is not None:
            yield self._initial
            return
        with self._changing:
            self._changing.wait_for(lambda: self._users == 0 or self._holds(which))
            if not self._holds(which):
                self._load(self._pool, which)
            self._users += 1
        try:
            yield self._pool
        finally:
            with self._changing:
                self._users -= 1
                self._changing.notify_all()

    def _holds(self, which: Weights) -> bool:
        return self._pool.weights is not None and self._pool.weights.label == self._weight_set(which).label

    def _load(self, pool: Pool, which: Weights) -> None:
        self.site.tell("bringing weights to SGLang")
        self._loop.run(pool.load(self._weight_set(which)))
        if self.config.check.probe:
            found = self._checker.probe(pool, which)
            self._numbers["engine/probe_max"] = max(self._numbers["engine/probe_max"], found.greatest)

    def _tell_all(self, route: str, payload: object) -> None:
        self._loop.run(self._pool.ask_each(lambda client: client.post(route, payload)))

    def _wake(self, what: str) -> None:
        if self.config.colocated and self._resting:
            self._tell_all("/resume_memory_occupation", {"tags": [what]})

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

    def _completion(self, request: GenerateRequest, answer: Answer | None, weights: Weights) -> Completion:
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
