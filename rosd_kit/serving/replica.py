"""One server of the run: made ready, given the run's weights, and recovered when it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from rosd_kit.errors import EngineError
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import RequestRejected, ServerFault, ServerInfo
from rosd_kit.serving.server import ServerProcess
from rosd_kit.serving.weight_transfer import LabeledWeights, WeightTransfer

#: Adds an amount to a metric of the step.
AddMetric = Callable[[str, float], None]

#: Seconds within which a healthy server responds to a health check, even under load.
_HEALTH_TIMEOUT = 25.0
#: Seconds between two health checks while waiting for a server.
_POLL_INTERVAL = 0.5
#: Seconds between two progress messages while waiting for a server.
_PROGRESS_INTERVAL = 15.0


@dataclass(frozen=True, kw_only=True)
class RetryLimits:
    """How long to wait for a server, and how often to restart it.

    `launch_seconds`: until a launched server is ready. `return_seconds`: until a server that somebody else runs is back.
    `relaunches`: how often in a row a launched server is restarted without a response in between.
    """

    launch_seconds: float = 600.0
    return_seconds: float = 120.0
    relaunches: int = 3


class Replica:
    """A server, and what the run knows of its state. `process` is set if the run launched it.

    `recoveries` counts successful recoveries, `starts` how often the server started; `lost_reason` says why it was given up.
    """

    def __init__(
        self,
        client: Client,
        *,
        process: ServerProcess | None,
        transfer: WeightTransfer,
        limits: RetryLimits,
        progress: Callable[[str], None],
        add_metric: AddMetric,
    ) -> None:
        self.client = client
        self.process = process
        self.recoveries = 0
        self.starts = 0
        self.lost_reason: str | None = None
        self._transfer = transfer
        self._limits = limits
        self._progress = progress
        self._add_metric = add_metric
        self._info: ServerInfo | None = None
        self._recovering = asyncio.Lock()
        self._relaunches = 0
        self._loaded_label: str | None = None  # of the last weights that arrived complete, with the cache flushed

    @property
    def info(self) -> ServerInfo:
        """Version, model and limits of the server; known once it has been ready."""
        assert self._info is not None, "the server has not been ready yet"
        return self._info

    async def start(self) -> None:
        """Start the server if the run launches it, and wait until it can generate. Raises `EngineError` if it never can."""
        if self.process is not None:
            await asyncio.to_thread(self.process.start)
        self.starts += 1
        await self._wait_until_healthy(self._limits.launch_seconds if self.process else self._limits.return_seconds)
        try:
            self._info = await self._read_info()
        except (ServerFault, RequestRejected) as error:
            raise EngineError(
                f"rollout: cannot read the server info of {self.client.url}: {error}. Is it a server of "
                f"{self.client.engine}, and is rollout.api_key_env right?"
            ) from error

    async def _read_info(self) -> ServerInfo:
        """Request the server info; a server that has just become healthy may still fail once or twice."""
        for _ in range(3):
            try:
                return await self.client.server_info()
            except ServerFault:
                await asyncio.sleep(_POLL_INTERVAL)
        return await self.client.server_info()

    async def load(self, weights: LabeledWeights) -> None:
        """Send weights to the server and check that it reports their label. Raises `ServerFault` or `RequestRejected`."""
        start = time.perf_counter()
        sent_bytes = await self._transfer.send(weights, self.client, self.info)
        await self.client.flush_cache()  # it was computed with the previous weights
        label = await self.client.weight_label()
        if label != weights.label:
            raise ServerFault("stale", f"{self.client.url} reports weights {label!r} after it was sent {weights.label!r}")
        self._loaded_label = label
        self._add_metric("engine/sync_seconds", time.perf_counter() - start)
        self._add_metric("engine/sync_mib", sent_bytes / 2**20)

    async def load_with_retries(self, weights: LabeledWeights) -> None:
        """Send weights to the server; if it fails meanwhile, recover it as often as the limits allow."""
        for _ in range(1 + self._limits.relaunches):
            recoveries = self.recoveries
            try:
                return await self.load(weights)
            except RequestRejected as rejected:
                raise EngineError(f"rollout: the server rejected the weights: {rejected}") from rejected
            except ServerFault as fault:
                self._add_metric(f"engine/fault/{fault.kind}", 1)
                last_fault = fault
            if await self.recover(weights, last_fault, recoveries):
                return None
        raise EngineError(f"rollout: {self.client.url} could not load the weights: {last_fault}")

    async def recover(self, weights: LabeledWeights, fault: ServerFault, recoveries: int) -> bool:
        """After a fault: wait for the server or restart it, and send it the weights if it does not hold them.

        Returns whether it holds them now. `recoveries` is the replica's count when the failed request was sent: if it has
        changed since, the replica has already recovered. Raises `EngineError` if the server is lost.
        """
        async with self._recovering:
            if self.lost_reason is not None:
                raise EngineError(self.lost_reason)  # do not wait for it a second time
            if self.recoveries != recoveries:
                return True
            dead = self.process is not None and not self.process.running
            if dead or not await self.client.is_healthy(timeout=_HEALTH_TIMEOUT):
                await self._restart(fault)
            try:
                label = await self.client.weight_label()
                if not label == self._loaded_label == weights.label:
                    self._add_metric("engine/resyncs", 1)
                    # A label that it was never sent means that it restarted with the weights it was launched with.
                    self.starts += label not in (self._loaded_label, weights.label)
                    await self.load(weights)
            except RequestRejected as rejected:
                raise EngineError(f"rollout: the server rejected the weights: {rejected}") from rejected
            except ServerFault:
                return False
            self.recoveries += 1
            return True

    def reset_relaunches(self) -> None:
        """Reset the relaunch counter; call it after a successful response."""
        self._relaunches = 0

    async def stop(self) -> None:
        """Close the connection and stop the server if the run launched it."""
        await self.client.close()
        if self.process is not None:
            await asyncio.to_thread(self.process.stop)

    async def _restart(self, fault: ServerFault) -> None:
        """Relaunch the server, or wait for it to come back if somebody else runs it."""
        if self.process is None:
            await self._wait_until_healthy(self._limits.return_seconds)
            return
        if self._relaunches >= self._limits.relaunches:
            raise EngineError(
                f"rollout: the {self.client.engine} server failed {self._relaunches + 1} times in a row; last fault: {fault}. "
                f"See {self.process.log}, which ends:\n{self.process.log_tail()}"
            )
        self._relaunches += 1
        self._add_metric("engine/relaunches", 1)
        self._progress(f"restarting the {self.client.engine} server ({self._relaunches} of {self._limits.relaunches})")
        try:
            await self.start()
        except EngineError:
            if self.process.running or self._relaunches >= self._limits.relaunches:
                raise
            await self._restart(fault)  # it exited at once, for example because its memory was not free yet

    async def _wait_until_healthy(self, seconds: float) -> None:
        """Wait until the server is healthy. Raises `EngineError` if it exits or the time is up."""
        start = time.monotonic()
        last_progress = -_PROGRESS_INTERVAL
        while not await self.client.is_healthy(timeout=_HEALTH_TIMEOUT):
            waited = time.monotonic() - start
            if self.process is not None and not self.process.running:
                raise EngineError(
                    f"rollout: the {self.client.engine} server exited before it was ready. See {self.process.log}, which "
                    f"ends:\n{self.process.log_tail()}"
                )
            if waited > seconds:
                raise EngineError(self._timeout_message(seconds))
            if waited - last_progress >= _PROGRESS_INTERVAL:
                last_progress = waited
                log = f", log {self.process.log}" if self.process else ""
                limit = f"{waited:.0f} s of at most {seconds:.0f}{log}"
                self._progress(f"waiting for {self.client.engine} at {self.client.url} ({limit})")
            await asyncio.sleep(_POLL_INTERVAL)

    def _timeout_message(self, seconds: float) -> str:
        text = f"rollout: no healthy {self.client.engine} server at {self.client.url} after {seconds:.0f} s. "
        if self.process is None:
            return text + "Start it, or correct rollout.url; checkpoints are kept, and the run can be resumed."
        return (
            text
            + f"Raise rollout.launch.deadline if it needs longer; see {self.process.log}, which ends:\n"
            + self.process.log_tail()
        )
