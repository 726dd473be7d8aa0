"""Samples rollouts with servers, which get the student's weights after every step and are compared with the trainer.

    start     launch servers or connect to those at `url`, wait until they are ready, send them the weights
    generate  spread requests over the servers; recover a failed server and send its requests again
    sync      send new weights under a new label; a probe must then give the trainer's log-probs
    rest      release the memory of a GPU that trainer and server share

Knows nothing of HTTP, processes, or which server it is: an engine names its options and its `PoolFactory`.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import threading
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosd_kit.contracts import Policy, RolloutEngine, Site
from rosd_kit.errors import RecipeError
from rosd_kit.serving.options import ServedOptions
from rosd_kit.text.specials import ids_without_token
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

if TYPE_CHECKING:
    from rosd_kit.serving.colocation import ColocatedMemory
    from rosd_kit.serving.factory import PoolFactory
    from rosd_kit.serving.pool import Pool
    from rosd_kit.serving.weight_transfer import LabeledWeights


class ServedEngine(RolloutEngine):
    """Samples with servers, at `url` or launched with the run; sends them new weights every step and checks them.

    An engine gives it a name, `Config` with `free_on_resume`, and `pool_factory`.
    """

    provides = frozenset({"overlap"})
    streams = True

    Config = ServedOptions
    config: ServedOptions

    @classmethod
    def offers(cls, options: ServedOptions) -> frozenset[str]:
        return cls.provides - {"overlap"} if options.colocated else cls.provides

    @classmethod
    def missing(cls, options: Any, *, on_gpu: bool) -> list[str]:
        faults = [] if find_spec("httpx") else ["needs httpx: pip install httpx"]
        return faults if options.url else faults + cls.missing_for_launch(options, on_gpu=on_gpu)

    @classmethod
    def missing_for_launch(cls, options: Any, *, on_gpu: bool) -> list[str]:
        """Return what the interpreter that would run the servers lacks, each with its remedy."""
        return []

    @abstractmethod
    def pool_factory(self) -> type[PoolFactory[Any]]:
        """Return the class that builds the pools; import it here, because listing the components must not import httpx."""

    def start(self, student: Policy, site: Site | None = None) -> None:
        # Imported here: they need httpx, and listing the components must not.
        from rosd_kit.parallel.devices import use_in_this_thread
        from rosd_kit.serving.event_loop import EventLoopThread
        from rosd_kit.serving.probe import LogprobChecker
        from rosd_kit.serving.requests import RequestSender
        from rosd_kit.serving.weight_lease import WeightLease

        self.student = student
        self.site = site or Site()
        live_urls, initial_urls = self._urls_of_rank("url"), self._urls_of_rank("initial_url")
        self.version = 0
        self._name = secrets.token_hex(4)
        self._sender = RequestSender(
            student=student, never=ids_without_token(student.tokenizer, student.vocabulary), name=self._name
        )
        self._metrics: defaultdict[str, float] = defaultdict(float)
        if self.site.folder is not None:
            self.site.folder.mkdir(exist_ok=True)
        self._compared: set[tuple[int, float]] = set()
        self._pools: list[Pool] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="rosd-kit-")
        self._loop = EventLoopThread(partial(use_in_this_thread, student.device))
        self._memory: dict[Pool, ColocatedMemory] = {}
        self._checker = LogprobChecker(student=student, settings=self.config.check, loop=self._loop)
        self._lease = WeightLease(holds=self._holds, load=lambda which: self._load(self._pool, which))
        factory = self.pool_factory()(
            student=student,
            config=self.config,
            site=self.site,
            folder=self.site.folder or Path(self._temporary.name),
            name=self._name,
            progress=self.site.tell,
            add_metric=self._add_metric,
        )
        try:
            self._pool = self._start_pool(factory, live_urls, "live")
            self._initial = self._start_pool(factory, initial_urls, "initial") if self._keeps_initial() else None
        except BaseException:
            self.close()
            raise

    def _keeps_initial(self) -> bool:
        """Return whether some servers keep the initial weights: named or launched for them, in a run that samples with them."""
        return self.site.samples_initial and bool(self.config.initial_url or self.config.launched_for_initial)

    def _urls_of_rank(self, field: str) -> list[str]:
        """Return the servers named in a field that this rank uses. Raises `RecipeError` if some rank would have none."""
        value, count = getattr(self.config, field), self.site.count
        urls = [value] if isinstance(value, str) else list(value)
        if urls and len(urls) < count:
            raise RecipeError(
                f"rollout.{field}: {len(urls)} of {count} ranks would have a server, and each needs its own. "
                f"Give at least {count} addresses, or launch servers with the run (rollout.launch)."
            )
        return urls[self.site.rank :: count]

    def _start_pool(self, factory: PoolFactory[Any], urls: Sequence[str], which: PolicyWeights) -> Pool:
        """Return a pool whose servers are ready and hold these weights."""
        from rosd_kit.serving.colocation import ColocatedMemory

        async def start() -> Pool:
            pool = factory.create(urls, which)
            self._pools.append(pool)
            await pool.start()
            return pool

        pool = self._loop.run(start())
        self._memory[pool] = ColocatedMemory(self._loop, pool)
        self._load(pool, which)
        return pool

    def sync(self, student: Policy, version: int) -> None:
        self.version = version
        self._memory[self._pool].resume("weights")
        with self._lease.hold("live"):
            pass
        self._memory[self._pool].resume("kv_cache")
        if self._initial is not None:
            self._wake(self._initial)

    def _wake(self, initial: Pool) -> None:
        """Make servers with the initial weights ready again after they slept; they kept a copy of the weights meanwhile."""
        if self._memory[initial].resume("weights"):
            self._memory[initial].resume("kv_cache")
            self._probe(initial, "initial")

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        completions = dict(self.stream(requests, weights=weights))
        return [completions[index] for index in range(len(requests))]

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        return self._stream(requests, weights, None)

    def stream_until(self, stop: threading.Event, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Completion]]:
        from rosd_kit.serving.stopping import follow

        seen = asyncio.Event()
        following = self._loop.start(follow(stop, seen))
        try:
            yield from self._stream(requests, "live", seen)
        finally:
            following.cancel()

    def _stream(
        self, requests: Sequence[GenerateRequest], weights: PolicyWeights, stopped: asyncio.Event | None
    ) -> Iterator[tuple[int, Completion]]:
        self._sender.check(requests)
        version = self.version if weights == "live" else 0
        with self._pool_with(weights) as pool:
            fitting = [index for index, request in enumerate(requests) if len(request.prompt_ids) < pool.context_length - 1]
            for index in sorted(set(range(len(requests))) - set(fitting)):
                yield index, self._sender.completion(requests[index], None, version)
            calls = [partial(self._sender.send, pool, requests[index], stopped) for index in fitting]
            to_compare: list[Completion] = []
            for position, result in self._loop.stream(calls):
                index = fitting[position]
                completion = self._sender.completion(requests[index], result, version)
                if len(to_compare) < self.config.check.samples and completion.token_ids:
                    to_compare.append(completion)
                yield index, completion
            if weights == "live" and to_compare:
                self._compare_if_due(to_compare, requests[fitting[0]].sampling.temperature)

    def _compare_if_due(self, completions: Sequence[Completion], temperature: float) -> None:
        """Compare log-probs with the trainer's, once per due step and temperature."""
        every = self.config.check.every
        if every == 0 or self.version % every or (self.version, temperature) in self._compared:
            return
        self._compared.add((self.version, temperature))
        gap = self._checker.compare(self._pool, completions, temperature)
        self._metrics["engine/mismatch_greatest"] = gap.max
        self._metrics["engine/mismatch_mean"] = gap.mean
        self._metrics["engine/mismatch_ratio_least"] = gap.ratio_min
        self._metrics["engine/mismatch_ratio_greatest"] = gap.ratio_max

    def rest(self) -> None:
        for pool, memory in self._memory.items():
            if self._shares_gpu(pool):
                memory.release()

    def _shares_gpu(self, pool: Pool) -> bool:
        """Return whether a pool's servers share the trainer's GPU; those at `initial_url` never do."""
        return self.config.colocated and (pool is self._pool or bool(self.config.launched_for_initial))

    def metrics(self) -> Mapping[str, float]:
        metrics, self._metrics = self._metrics, defaultdict(float)
        return dict(metrics)

    def close(self) -> None:
        self._lease.close(cancel_load=self._loop.cancel)
        while self._pools:
            self._loop.run(self._pools.pop().close())
        self._loop.close()
        self._temporary.cleanup()

    # -- weights

    def _labeled_weights(self, which: PolicyWeights) -> LabeledWeights:
        from rosd_kit.serving.weight_transfer import LabeledWeights

        label = "initial" if which == "initial" else str(self.version)
        return LabeledWeights(f"{self._name}-{label}", partial(self.student.full_weights, which))

    @contextmanager
    def _pool_with(self, which: PolicyWeights) -> Iterator[Pool]:
        """Yield a pool that holds these weights until the block ends; wait first for requests that need others."""
        if which == "initial" and self._initial is not None:
            yield self._initial
            return
        with self._lease.hold(which):
            yield self._pool

    def _holds(self, which: PolicyWeights) -> bool:
        return self._pool.weights is not None and self._pool.weights.label == self._labeled_weights(which).label

    def _load(self, pool: Pool, which: PolicyWeights) -> None:
        self._loop.run(pool.load(self._labeled_weights(which)))
        self._memory[pool].resume("kv_cache")  # the probe needs it, the transfer did not
        self._probe(pool, which)

    def _probe(self, pool: Pool, which: PolicyWeights) -> None:
        if self.config.check.probe:
            gap = self._checker.probe(pool, which)
            self._metrics["engine/probe_max"] = max(self._metrics["engine/probe_max"], gap.max)

    def _add_metric(self, name: str, amount: float) -> None:
        self._metrics[name] += amount
