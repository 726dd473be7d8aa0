"""An asyncio event loop in a background thread, for callers that are not async themselves."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from rosd_kit.errors import EngineError

T = TypeVar("T")

_CLOSED = "rollout: the engine was closed."


class EventLoopThread:
    """Runs coroutines while the caller waits for all of them, or handles each result as it arrives."""

    def __init__(self, begin_thread: Callable[[], object] = lambda: None) -> None:
        """Start the loop. `begin_thread` is called once in each of its threads, also in those of `asyncio.to_thread`."""
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="rosd-kit-servers", initializer=begin_thread))
        self._loop.call_soon(begin_thread)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rosd-kit-servers", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[object, None, T]) -> T:
        """Run a coroutine and return its result; an interrupt of the caller cancels it."""
        future = self._submit(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise EngineError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def stream(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> Iterator[tuple[int, T]]:
        """Start all calls at once and yield (index, result) as they finish. The first error cancels the rest and is raised."""
        finished: queue.SimpleQueue[tuple[int, T] | BaseException] = queue.SimpleQueue()

        async def run_one(index: int, call: Callable[[], Awaitable[T]]) -> None:
            finished.put((index, await call()))

        async def run_all() -> None:
            async with asyncio.TaskGroup() as group:
                for index, call in enumerate(calls):
                    group.create_task(run_one(index, call))

        def report_error(future: Future[None]) -> None:
            error = EngineError(_CLOSED) if future.cancelled() else future.exception()
            if error is not None:
                finished.put(_first_error(error))

        future = self._submit(run_all())
        future.add_done_callback(report_error)
        try:
            for _ in calls:
                result = finished.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            future.cancel()

    def start(self, coroutine: Coroutine[object, None, T]) -> Future[T]:
        """Start a coroutine; cancel what is returned to end it."""
        return self._submit(coroutine)

    def cancel(self) -> None:
        """Cancel all running coroutines; their callers get an `EngineError`."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=5)

        if not self._loop.is_closed():
            self.run(cancel_all())

    def close(self) -> None:
        """Stop the loop and end its thread."""
        self.cancel()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive() and not self._loop.is_closed():
            self._loop.close()

    def _submit(self, coroutine: Coroutine[object, None, T]) -> Future[T]:
        if self._loop.is_closed():
            coroutine.close()
            raise EngineError(_CLOSED)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _first_error(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
